// The gradient of whole heads' gates from its parts.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 128, WARPS = THREADS / 32;

__device__ __forceinline__ float sum_of_lanes(float value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0u, value, lanes);
  return value;
}
// Over this lane and those below it.
__device__ __forceinline__ float sum_up_to_lane(float value) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const float before = __shfl_up_sync(~0u, value, lanes);
    if (lane >= lanes) value += before;
  }
  return value;
}

// One warp a chunk and head, two tokens a lane.
__global__ void __launch_bounds__(THREADS)
    gate_gradient(const __grid_constant__ Chunked p, const __grid_constant__ HeadGateGradient g) {
  const int64_t chunk_head = static_cast<int64_t>(blockIdx.x) * WARPS + (threadIdx.x >> 5);
  if (chunk_head >= p.chunks * p.heads) return;
  const int lane = threadIdx.x & 31, head = static_cast<int>(chunk_head % p.heads);
  const ChunkSpan span = span_of_chunk(p.offsets, p.chunk_offsets, p.sequences, chunk_head / p.heads);
  float q[2], k[2];
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int64_t row = (chunk_head * CHUNK + 2 * lane + e) * g.groups;
    q[e] = k[e] = 0.0f;
    for (int i = 0; i < g.groups; ++i) q[e] += g.q_totals[row + i], k[e] += g.k_totals[row + i];
  }
  float across = 0.0f;
  for (int i = lane; i < g.dots_each; i += 32) across += g.dots[chunk_head * g.dots_each + i];
  across =
      p.scale * g.factors[chunk_head * HEAD_FACTORS + HEAD_DECAY] * sum_of_lanes(across) - g.near[chunk_head];
  const float q_sum = sum_up_to_lane(q[0] + q[1]), k_sum = sum_up_to_lane(k[0] + k[1]);
  const float q_from = __shfl_sync(~0u, q_sum, 31) - (q_sum - q[0] - q[1]);  // from this lane's tokens on
  const float k_before = k_sum - k[0] - k[1];
  bfloat16* to = g.to.data + span.first * g.to.stride + head;
  if (2 * lane < span.rows) to[2 * lane * g.to.stride] = from_float<bfloat16>(q_from + k_before + across);
  if (2 * lane + 1 < span.rows) {
    to[(2 * lane + 1) * g.to.stride] = from_float<bfloat16>(q_from - q[0] + k_before + k[0] + across);
  }
}

// One warp a token and head.
template <class T>
__global__ void __launch_bounds__(THREADS)
    sum_parts(const float* parts, int64_t rows, int64_t heads, int64_t count, T* to, int64_t stride) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * WARPS + (threadIdx.x >> 5);
  if (row >= rows) return;
  const int lane = threadIdx.x & 31;
  float sum = 0.0f;
  for (int64_t i = lane; i < count; i += 32) sum += parts[row * count + i];
  sum = sum_of_lanes(sum);
  if (lane == 0) to[row / heads * stride + row % heads] = from_float<T>(sum);
}

}  // namespace

void gradient_of_head_gates(const Chunked& chunked, const HeadGateGradient& gradient, Stream stream) {
  if (chunked.chunks == 0) return;
  const int64_t blocks = (chunked.chunks * chunked.heads + WARPS - 1) / WARPS;
  gate_gradient<<<static_cast<unsigned>(blocks), THREADS, 0, stream>>>(chunked, gradient);
  SLUICE_CHECK_LAUNCH("gated_linear_attention head gates");
}

template <class T>
void sum_head_gate_parts(const float* parts, int64_t tokens, int64_t heads, int64_t count, T* to,
                         int64_t stride, Stream stream) {
  const int64_t rows = tokens * heads;
  if (rows == 0) return;
  sum_parts<T><<<static_cast<unsigned>((rows + WARPS - 1) / WARPS), THREADS, 0, stream>>>(parts, rows, heads,
                                                                                          count, to, stride);
  SLUICE_CHECK_LAUNCH("gated_linear_attention sum of head gates");
}
template void sum_head_gate_parts(const float*, int64_t, int64_t, int64_t, float*, int64_t, Stream);
template void sum_head_gate_parts(const float*, int64_t, int64_t, int64_t, bfloat16*, int64_t, Stream);

}  // namespace sluice::kernels::gla
