#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/sequence_part/state_fold.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 128;
// Tokens summed by one block. Fixed, so that the order of the sum depends on the lengths alone.
constexpr int64_t TOKENS = 256;
constexpr int64_t MOST_BLOCKS = 65535;

template <class T>
int64_t pieces_of(const PartDecayParams<T>& p) {
  const int64_t pieces = (p.longest + TOKENS - 1) / TOKENS;
  return pieces > 1 ? pieces : 1;
}

// Block (c, piece, slot): a channel a thread.
template <class T>
__global__ void __launch_bounds__(THREADS) sum_pieces(const __grid_constant__ PartDecayParams<T> p) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (channel >= p.channels) return;
  const int64_t slot = blockIdx.z, first = p.begin[slot] + blockIdx.y * TOKENS;
  const int64_t last = first + TOKENS < p.end[slot] ? first + TOKENS : p.end[slot];
  float sum = 0;
  if (p.g != nullptr) {
#pragma unroll 8
    for (int64_t t = first; t < last; ++t) sum += as_float(p.g[t * p.g_stride + channel]);
  }
  p.sums[(slot * gridDim.y + blockIdx.y) * p.channels + channel] = sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    decays_of_sums(const __grid_constant__ PartDecayParams<T> p, int64_t pieces) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (channel >= p.channels) return;
  const int64_t slot = blockIdx.y;
  float sum = 0;
  for (int64_t piece = 0; piece < pieces; ++piece)
    sum += p.sums[(slot * pieces + piece) * p.channels + channel];
  p.decay[slot * p.channels + channel] = p.passes[slot] != 0 ? expf(sum) : 0.0f;
}

__global__ void __launch_bounds__(THREADS) fold(const __grid_constant__ StateFoldParams<float> p) {
  const int64_t elements = p.rows * p.columns;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < elements;
       i += static_cast<int64_t>(gridDim.x) * THREADS) {
    const int64_t row = i / p.columns;
    float folded = 0;
    for (int64_t n = 0; n < p.count; ++n) {
      const int64_t part = p.first + n * p.step;
      folded = p.decays[part * p.part_stride + row] * folded + p.states[part * p.part_stride + i];
    }
    p.folded[i] = folded;
  }
}

}  // namespace

namespace cuda {

template <class T>
int64_t part_decay_sums(const PartDecayParams<T>& p) {
  return p.slots * pieces_of(p) * p.channels;
}

template <class T>
void part_decay(const PartDecayParams<T>& p) {
  if (p.slots == 0 || p.channels == 0) return;
  const int64_t pieces = pieces_of(p);
  SLUICE_CHECK(p.slots <= MOST_BLOCKS && pieces <= MOST_BLOCKS, kUsage,
               "a part of {} rows of {} tokens; at most {} rows of {} are supported", p.slots, p.longest,
               MOST_BLOCKS, MOST_BLOCKS * TOKENS);
  const auto columns = static_cast<unsigned>((p.channels + THREADS - 1) / THREADS);
  const dim3 grid(columns, static_cast<unsigned>(pieces), static_cast<unsigned>(p.slots));
  sum_pieces<T><<<grid, THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("part_decay");
  decays_of_sums<T><<<dim3(columns, static_cast<unsigned>(p.slots)), THREADS, 0, p.stream>>>(p, pieces);
  SLUICE_CHECK_LAUNCH("part_decay's last sum");
}

template <>
void state_fold(const StateFoldParams<float>& p) {
  const int64_t blocks = (p.rows * p.columns + THREADS - 1) / THREADS;
  if (blocks == 0) return;
  fold<<<static_cast<unsigned>(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS), THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("state_fold");
}

template int64_t part_decay_sums(const PartDecayParams<float>&);
template int64_t part_decay_sums(const PartDecayParams<bfloat16>&);
template void part_decay(const PartDecayParams<float>&);
template void part_decay(const PartDecayParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
