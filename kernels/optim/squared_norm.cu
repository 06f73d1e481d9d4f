#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/optim/squared_norm.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 256;
constexpr int TOGETHER = 4;  // loads of a thread on their way together
// Eight blocks on each of 132 multiprocessors. Fixed, so that the sum's order depends on the count alone.
constexpr int64_t MOST_BLOCKS = 1056;

struct Partial {
  double sum = 0;
  long long non_finite = 0;

  __device__ __forceinline__ void add(float x) {
    const auto value = static_cast<double>(x);
    sum += value * value;
    non_finite += isfinite(x) ? 0 : 1;
  }
};

int64_t blocks_of(int64_t count) {
  constexpr int64_t kTile = int64_t{THREADS} * 4 * TOGETHER;
  return std::min(MOST_BLOCKS, (count + kTile - 1) / kTile);
}

// Sums of the block's elements, in thread 0.
__device__ Partial block_total(Partial partial) {
  __shared__ double sums[WARP];
  __shared__ long long counts[WARP];
  partial.sum = reduce_block<Sum>(partial.sum, sums);
  partial.non_finite = reduce_block<Sum>(partial.non_finite, counts);
  return partial;
}

// Where elements lie. Steps from one to a later one need no division.
class Cursor {
 public:
  __device__ Cursor(int64_t at, int64_t part, int64_t stride)
      : within_(at % part), begin_(at / part * stride), part_(part), stride_(stride) {}
  __device__ void advance(int64_t count) {
    for (within_ += count; within_ >= part_; within_ -= part_) begin_ += stride_;
  }
  __device__ int64_t offset() const { return begin_ + within_; }

 private:
  int64_t within_, begin_, part_, stride_;
};

// Block b takes tiles b, b + blocks, ... of TOGETHER packs a thread. N divides the parts.
template <int N>
__global__ void __launch_bounds__(THREADS) sum_blocks(const float* x, int64_t count, int64_t part,
                                                      int64_t stride, double* sums, long long* non_finite) {
  constexpr int64_t kTile = int64_t{THREADS} * N * TOGETHER;
  Partial partial;
  for (int64_t first = blockIdx.x * kTile; first < count; first += gridDim.x * kTile) {
    Pack<float, N> packs[TOGETHER];
    Cursor cursor(first + threadIdx.x * N, part, stride);
#pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      const int64_t at = first + (u * THREADS + threadIdx.x) * N;
      if (at + N <= count) packs[u] = Pack<float, N>::load(x + cursor.offset());
      cursor.advance(THREADS * N);
    }
#pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      const int64_t at = first + (u * THREADS + threadIdx.x) * N;
      if (at + N <= count) {
#pragma unroll
        for (int i = 0; i < N; ++i) partial.add(packs[u][i]);
      } else {
        // Of a single part: with several, N divides the count.
        for (int64_t i = at; i < count; ++i) partial.add(x[i]);
      }
    }
  }
  partial = block_total(partial);
  if (threadIdx.x != 0) return;
  sums[blockIdx.x] = partial.sum;
  non_finite[blockIdx.x] = partial.non_finite;
}

__global__ void __launch_bounds__(THREADS)
    sum_partials(const double* sums, const long long* non_finite, int blocks, double* sum, int64_t* count) {
  Partial partial;
  for (int block = threadIdx.x; block < blocks; block += THREADS) {
    partial.sum += sums[block];
    partial.non_finite += non_finite[block];
  }
  partial = block_total(partial);
  if (threadIdx.x != 0) return;
  *sum = partial.sum;
  *count = partial.non_finite;
}

}  // namespace

namespace cuda {

template <>
int64_t squared_norm_workspace(const SquaredNormParams<float>& p) {
  return blocks_of(p.count) * static_cast<int64_t>(sizeof(double) + sizeof(long long));
}

template <>
void squared_norm(const SquaredNormParams<float>& p) {
  const int64_t blocks = blocks_of(p.count);
  auto* sums = static_cast<double*>(p.workspace);
  auto* non_finite = reinterpret_cast<long long*>(sums + blocks);
  if (blocks > 0) {
    const auto grid = static_cast<unsigned>(blocks);
    const int64_t part = p.part > 0 ? p.part : p.count;
    if (can_pack<4>(p.x, p.stride, p.part)) {
      sum_blocks<4><<<grid, THREADS, 0, p.stream>>>(p.x, p.count, part, p.stride, sums, non_finite);
    } else {
      sum_blocks<1><<<grid, THREADS, 0, p.stream>>>(p.x, p.count, part, p.stride, sums, non_finite);
    }
    SLUICE_CHECK_LAUNCH("squared_norm");
  }
  sum_partials<<<1, THREADS, 0, p.stream>>>(sums, non_finite, static_cast<int>(blocks), p.sum, p.non_finite);
  SLUICE_CHECK_LAUNCH("squared_norm's last sum");
}

}  // namespace cuda
}  // namespace sluice::kernels
