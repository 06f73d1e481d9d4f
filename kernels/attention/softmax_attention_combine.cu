// Joins what blocks computed from different keys of the same queries.
#include "core/cuda_check.h"
#include "kernels/attention/attention_splits.cuh"
#include "kernels/common/device_types.cuh"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 128, COLUMNS = 8;  // a lane's columns: head_dim up to 32 * COLUMNS

// A warp a slot.
template <class T>
__global__ void __launch_bounds__(THREADS) combine(const __grid_constant__ SoftmaxAttentionForward<T> p,
                                                   const __grid_constant__ AttentionSplits splits) {
  const AttentionShape& s = p.shape;
  const int64_t slot = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (slot >= splits.slots) return;
  const int64_t head = slot % s.heads, query = slot / s.heads % s.longest_q,
                sequence = slot / s.heads / s.longest_q;
  const int64_t q_row = s.q_offsets[sequence] + query;
  if (q_row >= s.q_offsets[sequence + 1]) return;

  float most = -INFINITY;
  for (int i = lane; i < splits.splits; i += 32)
    most = fmaxf(most, splits.logarithms[i * splits.slots + slot]);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));

  float sum[COLUMNS] = {}, total = 0.f;
#pragma unroll 4
  for (int i = 0; i < splits.splits; ++i) {
    const float logarithm = splits.logarithms[i * splits.slots + slot];
    const float weight = exp2f(logarithm - most);
    total += weight;
    const float* from = splits.sums + (i * splits.slots + slot) * s.head_dim;
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
      if (lane + c * 32 < s.head_dim) sum[c] = fmaf(weight, from[lane + c * 32], sum[c]);
    }
  }
  const float inverse = 1.f / total;
  T* o = p.o + q_row * p.o_stride + head * s.head_dim;
#pragma unroll
  for (int c = 0; c < COLUMNS; ++c) {
    if (lane + c * 32 < s.head_dim) o[lane + c * 32] = from_float<T>(sum[c] * inverse);
  }
  if (p.lse != nullptr && lane == 0) p.lse[q_row * s.heads + head] = (most + log2f(total)) * kLn2;
}

}  // namespace

template <class T>
void combine_splits(const SoftmaxAttentionForward<T>& p, const AttentionSplits& splits) {
  const int64_t blocks = divide_up(splits.slots, THREADS / 32);
  combine<T><<<static_cast<unsigned>(blocks), THREADS, 0, p.stream>>>(p, splits);
  SLUICE_CHECK_LAUNCH("softmax_attention_combine");
}

template void combine_splits(const SoftmaxAttentionForward<float>&, const AttentionSplits&);
template void combine_splits(const SoftmaxAttentionForward<bfloat16>&, const AttentionSplits&);

}  // namespace sluice::kernels
