#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/partial_sums.h"
#include "kernels/common/reduce.cuh"
#include "kernels/norm/rms_norm.h"

namespace sluice::kernels {
namespace {

constexpr int MOST_THREADS = 512;
// Most packs of a row that one thread keeps in registers.
constexpr int MOST_KEPT = 2;

// How a call is spread: block b takes rows b, b + blocks, ... A function of the sizes alone, so that the
// weight gradient's order of summation is.
struct Plan {
  bool packed = false;
  int kept = 0;  // packs a thread keeps; 0: rows are read twice
  int threads = 0;
  int64_t blocks = 0;
};

template <class T, class H>
Plan plan_of(const RmsNormBackward<T, H>& p) {
  constexpr int N = PACK<T>;
  const int64_t C = p.columns;
  Plan plan;
  plan.packed = can_pack<N>(p.h, p.h_stride, C) && can_pack<N>(p.dy, p.dy_stride, C) &&
                can_pack<N>(p.dresidual, C, C) && can_pack<N>(p.dh, p.dh_stride, C) &&
                can_pack<N>(p.rounded, C, C) && can_pack<N>(p.weight, 0, C);
  const int64_t packs = plan.packed ? C / N : C;
  if (plan.packed && packs <= int64_t{MOST_THREADS} * MOST_KEPT) plan.kept = packs <= MOST_THREADS ? 1 : 2;
  const int64_t lanes = plan.kept > 0 ? (packs + plan.kept - 1) / plan.kept : packs;
  plan.threads = static_cast<int>(std::min<int64_t>(MOST_THREADS, (lanes + WARP - 1) / WARP * WARP));
  // About 1024 threads on each of 132 multiprocessors.
  plan.blocks = std::min(p.rows, std::min<int64_t>(2112, 132 * 1024 / plan.threads));
  return plan;
}

template <class T, class H>
bool wants_weight(const RmsNormBackward<T, H>& p) {
  return p.dweight != nullptr && p.dy != nullptr;
}

// What dh gets from elsewhere.
template <class T, class H, int N>
struct Before {
  Pack<accumulate_t<T>, N> dresidual;
  Pack<H, N> dh;

  __device__ __forceinline__ void load(const RmsNormBackward<T, H>& p, int64_t row, int64_t column) {
    if (p.dresidual != nullptr)
      dresidual = Pack<accumulate_t<T>, N>::load(p.dresidual + row * p.columns + column);
    if (p.accumulate_dh) dh = Pack<H, N>::load(p.dh + row * p.dh_stride + column);
  }
};

// With n = h * rstd and g = dy * weight: dh = rstd * (g - n * mean(g * n)); projection = rstd^3 * mean(g *
// h).
template <class T, class H, int N>
__device__ __forceinline__ void store_gradient(const RmsNormBackward<T, H>& p, const Before<T, H, N>& before,
                                               const Pack<H, N>& h, const Pack<T, N>& dy, float rstd,
                                               float projection, int64_t row, int64_t column) {
  if (p.dh == nullptr && p.rounded == nullptr) return;
  const auto weight = load_or_ones<N>(p.weight, column);
  float dh[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    dh[i] = p.dresidual != nullptr ? before.dresidual[i] : 0.0f;
    if (p.dy != nullptr) dh[i] += rstd * dy[i] * weight[i] - projection * h[i];
  }
  if (p.rounded != nullptr) Pack<T, N>::of(dh).store(p.rounded + row * p.columns + column);
  if (p.dh == nullptr) return;
  if (p.accumulate_dh) {
#pragma unroll
    for (int i = 0; i < N; ++i) dh[i] += before.dh[i];
  }
  Pack<H, N>::of(dh).store(p.dh + row * p.dh_stride + column);
}

template <class T, class H, int N>
__device__ __forceinline__ float dot(const Pack<H, N>& h, const Pack<T, N>& dy,
                                     const Pack<float, N>& weight) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += dy[i] * weight[i] * h[i];
  return sum;
}

template <class T, class H, int N, int K>
struct Row {
  Pack<H, N> h[K];
  Pack<T, N> dy[K];
  float rstd;

  __device__ __forceinline__ void load(const RmsNormBackward<T, H>& p, int64_t row) {
    rstd = p.rstd[row];
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
      if (column >= p.columns || p.dy == nullptr) continue;
      h[k] = Pack<H, N>::load(p.h + row * p.h_stride + column);
      dy[k] = Pack<T, N>::load(p.dy + row * p.dy_stride + column);
    }
  }
};

// Rows in registers; the next row is on its way while this one is summed. partial [blocks, columns], or null.
template <class T, class H, int N, int K>
__global__ void __launch_bounds__(MOST_THREADS)
    backward_kept(const __grid_constant__ RmsNormBackward<T, H> p, float* partial) {
  __shared__ float shared[2][WARP];
  float dweight[K][N] = {};
  Row<T, H, N, K> next;
  int parity = 0;
  next.load(p, blockIdx.x);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x, parity ^= 1) {
    const Row<T, H, N, K> now = next;
    if (row + gridDim.x < p.rows) next.load(p, row + gridDim.x);
    Before<T, H, N> before[K];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
      if (column >= p.columns) continue;
      before[k].load(p, row, column);
      if (p.dy != nullptr) sum += dot(now.h[k], now.dy[k], load_or_ones<N>(p.weight, column));
    }
    sum = reduce_block<Sum>(sum, shared[parity]);
    const float projection = sum * now.rstd * now.rstd * now.rstd / static_cast<float>(p.columns);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
      if (column >= p.columns) continue;
      store_gradient(p, before[k], now.h[k], now.dy[k], now.rstd, projection, row, column);
      if (partial == nullptr) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) dweight[k][i] += now.dy[k][i] * now.h[k][i] * now.rstd;
    }
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column >= p.columns) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) partial[blockIdx.x * p.columns + column + i] = dweight[k][i];
  }
}

// Rows of any length, read a second time from the cache; the partial sums stay in memory.
template <class T, class H, int N>
__global__ void __launch_bounds__(MOST_THREADS)
    backward_looped(const __grid_constant__ RmsNormBackward<T, H> p, float* partial) {
  __shared__ float shared[2][WARP];
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  float* dweight = partial != nullptr ? partial + blockIdx.x * p.columns : nullptr;
  int parity = 0;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x, parity ^= 1) {
    const float rstd = p.rstd[row];
    const H* h_row = p.h + row * p.h_stride;
    const T* dy_row = p.dy + row * p.dy_stride;
    float sum = 0;
    if (p.dy != nullptr) {
      for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
        sum += dot(Pack<H, N>::load(h_row + column), Pack<T, N>::load(dy_row + column),
                   load_or_ones<N>(p.weight, column));
      }
    }
    sum = reduce_block<Sum>(sum, shared[parity]);
    const float projection = sum * rstd * rstd * rstd / static_cast<float>(p.columns);
    for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
      Pack<H, N> h;
      Pack<T, N> dy;
      if (p.dy != nullptr) h = Pack<H, N>::load(h_row + column), dy = Pack<T, N>::load(dy_row + column);
      Before<T, H, N> before;
      before.load(p, row, column);
      store_gradient(p, before, h, dy, rstd, projection, row, column);
      if (dweight == nullptr) continue;
      const bool first = row == blockIdx.x;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        dweight[column + i] = (first ? 0.0f : dweight[column + i]) + dy[i] * h[i] * rstd;
      }
    }
  }
}

}  // namespace

namespace cuda {

template <class T, class H>
int64_t rms_norm_backward_workspace(const RmsNormBackward<T, H>& p) {
  if (p.rows <= 0 || !wants_weight(p)) return 0;
  return plan_of(p).blocks * p.columns * static_cast<int64_t>(sizeof(float));
}

template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  const Plan plan = plan_of(p);
  float* partial = wants_weight(p) ? static_cast<float*>(p.workspace) : nullptr;
  const auto blocks = static_cast<unsigned>(plan.blocks), threads = static_cast<unsigned>(plan.threads);
  if (plan.kept == 1) {
    backward_kept<T, H, PACK<T>, 1><<<blocks, threads, 0, p.stream>>>(p, partial);
  } else if (plan.kept == 2) {
    backward_kept<T, H, PACK<T>, 2><<<blocks, threads, 0, p.stream>>>(p, partial);
  } else if (plan.packed) {
    backward_looped<T, H, PACK<T>><<<blocks, threads, 0, p.stream>>>(p, partial);
  } else {
    backward_looped<T, H, 1><<<blocks, threads, 0, p.stream>>>(p, partial);
  }
  SLUICE_CHECK_LAUNCH("rms_norm_backward");
  if (partial != nullptr) add_partial_sums(partial, plan.blocks, p.columns, p.dweight, true, p.stream);
}

template void rms_norm_backward(const RmsNormBackward<float>&);
template void rms_norm_backward(const RmsNormBackward<bfloat16>&);
template void rms_norm_backward(const RmsNormBackward<bfloat16, float>&);
template int64_t rms_norm_backward_workspace(const RmsNormBackward<float>&);
template int64_t rms_norm_backward_workspace(const RmsNormBackward<bfloat16>&);
template int64_t rms_norm_backward_workspace(const RmsNormBackward<bfloat16, float>&);

}  // namespace cuda
}  // namespace sluice::kernels
