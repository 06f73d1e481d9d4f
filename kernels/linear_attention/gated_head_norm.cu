#include "kernels/linear_attention/gated_head_norm.h"

#include "kernels/common/math.cuh"
#include "kernels/linear_attention/gated_head_norm.cuh"

namespace sluice::kernels {
namespace {

template <class T, int N, int KEPT>
__global__ void __launch_bounds__(HEAD_THREADS)
    forward(const __grid_constant__ GatedHeadNormForward<T> p, int lanes) {
  const int lane = threadIdx.x % lanes;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (HEAD_THREADS / lanes) + threadIdx.x / lanes;
  const int64_t items = p.rows * p.heads;
  const bool active = item < items;
  const HeadPlace place(active ? item : 0, items, p.heads);
  const int64_t row = place.row, D = active ? p.head_size : 0, start = place.head * p.head_size;
  Pack<T, N> o[KEPT], gate[KEPT];
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
    if (i >= D) continue;
    o[k] = Pack<T, N>::load(p.o + row * p.o_stride + start + i);
    if (p.gate != nullptr) gate[k] = Pack<T, N>::load(p.gate + row * p.gate_stride + start + i);
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    if (static_cast<int64_t>(k * lanes + lane) * N >= D) continue;
#pragma unroll
    for (int j = 0; j < N; ++j) squares += o[k][j] * o[k][j];
  }
  squares = reduce_lanes<Sum>(squares, lanes);
  const float rstd = 1.0f / sqrtf(squares / static_cast<float>(p.head_size) + static_cast<float>(p.eps));
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
    if (i >= D) continue;
    Pack<float, N> weight;
    float y[N];
    if (p.weight != nullptr) weight = Pack<float, N>::load(p.weight + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float value = o[k][j] * rstd;
      if (p.weight != nullptr) value *= weight[j];
      if (p.gate != nullptr) value *= gate[k][j] * sigmoid<T>(gate[k][j]);
      y[j] = value;
    }
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + start + i);
  }
  if (active && p.rstd != nullptr && lane == 0) p.rstd[item] = rstd;
}

}  // namespace

namespace cuda {

template <class T>
void gated_head_norm_forward(const GatedHeadNormForward<T>& p) {
  if (p.rows <= 0 || p.heads <= 0) return;
  constexpr int N = PACK<T>;
  const int64_t D = p.head_size;
  const bool packable = can_pack<N>(p.o, p.o_stride, D) && can_pack<N>(p.gate, p.gate_stride, D) &&
                        can_pack<N>(p.weight, 0, D) && can_pack<N>(p.y, p.y_stride, D);
  with_head_layout<T>("gated_head_norm", D, packable, [&]<int kPack, int kKept>(int lanes) {
    const int64_t groups = HEAD_THREADS / lanes;
    const auto blocks = static_cast<unsigned>((p.rows * p.heads + groups - 1) / groups);
    forward<T, kPack, kKept><<<blocks, HEAD_THREADS, 0, p.stream>>>(p, lanes);
  });
  SLUICE_CHECK_LAUNCH("gated_head_norm_forward");
}

template void gated_head_norm_forward(const GatedHeadNormForward<float>&);
template void gated_head_norm_forward(const GatedHeadNormForward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
