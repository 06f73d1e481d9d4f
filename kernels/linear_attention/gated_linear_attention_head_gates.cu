// The gradient of whole heads' gates: sums over the keys.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 128;

// `lanes` threads a token and head, of one warp.
template <class T>
__global__ void __launch_bounds__(THREADS) sum_parts(const float* parts, int64_t rows, int64_t heads,
                                                     int64_t count, int lanes, T* to, int64_t stride) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x, row = thread / lanes;
  const int lane = static_cast<int>(thread % lanes);
  float sum = 0.0f;
  for (int64_t i = lane; row < rows && i < count; i += lanes) sum += parts[row * count + i];
  for (int i = lanes / 2; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
  if (row < rows && lane == 0) to[row / heads * stride + row % heads] = from_float<T>(sum);
}

}  // namespace

template <class T>
void sum_head_gate_parts(const float* parts, int64_t tokens, int64_t heads, int64_t count, T* to,
                         int64_t stride, Stream stream) {
  const int64_t rows = tokens * heads;
  if (rows == 0) return;
  const int lanes = count > 8 ? 32 : 1;
  const unsigned blocks = static_cast<unsigned>((rows * lanes + THREADS - 1) / THREADS);
  sum_parts<T><<<blocks, THREADS, 0, stream>>>(parts, rows, heads, count, lanes, to, stride);
  SLUICE_CHECK_LAUNCH("gated_linear_attention sum of head gates");
}
template void sum_head_gate_parts(const float*, int64_t, int64_t, int64_t, float*, int64_t, Stream);
template void sum_head_gate_parts(const float*, int64_t, int64_t, int64_t, bfloat16*, int64_t, Stream);

}  // namespace sluice::kernels::gla
