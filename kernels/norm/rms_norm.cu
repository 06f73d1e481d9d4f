#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/norm/rms_norm.h"

namespace sluice::kernels {
namespace {

// Packs of a row that one thread keeps in registers.
constexpr int KEPT = 4;
constexpr int MOST_THREADS = 512;

__device__ __forceinline__ float rstd_of(float squares, int64_t columns, double eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(columns) + static_cast<float>(eps));
}

template <class H, int N>
__device__ __forceinline__ float squares_of(const Pack<H, N>& h) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) squares += h[i] * h[i];
  return squares;
}

// y = h * rstd * weight for the pack at `column`.
template <class T, class H, int N>
__device__ __forceinline__ void store_normalised(const RmsNormForward<T, H>& p, const Pack<H, N>& h,
                                                 float rstd, int64_t row, int64_t column) {
  float y[N];
  if (p.weight != nullptr) {
    const auto weight = Pack<accumulate_t<T>, N>::load(p.weight + column);
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = h[i] * rstd * weight[i];
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = h[i] * rstd;
  }
  Pack<T, N>::of(y).store(p.y + row * p.columns + column);
}

// One block a row, held in registers: every element is read once.
template <class T, class H, int N>
__global__ void __launch_bounds__(MOST_THREADS) forward_kept(const __grid_constant__ RmsNormForward<T, H> p) {
  __shared__ float shared[WARP];
  const int64_t row = blockIdx.x;
  Pack<H, N> h[KEPT];
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column < p.columns) h[k] = Pack<H, N>::load(p.h + row * p.h_stride + column);
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column < p.columns) squares += squares_of(h[k]);
  }
  const float rstd = rstd_of(reduce_block<Sum>(squares, shared), p.columns, p.eps);
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column < p.columns) store_normalised(p, h[k], rstd, row, column);
  }
  if (p.rstd != nullptr && threadIdx.x == 0) p.rstd[row] = rstd;
}

// One block a row of any length, read a second time from the cache.
template <class T, class H, int N>
__global__ void __launch_bounds__(MOST_THREADS)
    forward_looped(const __grid_constant__ RmsNormForward<T, H> p) {
  __shared__ float shared[WARP];
  const int64_t row = blockIdx.x;
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  const H* h = p.h + row * p.h_stride;
  float squares = 0;
  for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
    squares += squares_of(Pack<H, N>::load(h + column));
  }
  const float rstd = rstd_of(reduce_block<Sum>(squares, shared), p.columns, p.eps);
  for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
    store_normalised(p, Pack<H, N>::load(h + column), rstd, row, column);
  }
  if (p.rstd != nullptr && threadIdx.x == 0) p.rstd[row] = rstd;
}

}  // namespace

namespace cuda {

template <class T, class H>
void rms_norm_forward(const RmsNormForward<T, H>& p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  constexpr int N = PACK<T>;
  const int64_t C = p.columns;
  const bool packable =
      can_pack<N>(p.h, p.h_stride, C) && can_pack<N>(p.y, C, C) && can_pack<N>(p.weight, 0, C);
  const auto blocks = static_cast<unsigned>(p.rows);
  if (!packable) {
    const int64_t threads = std::min<int64_t>(MOST_THREADS, (C + WARP - 1) / WARP * WARP);
    forward_looped<T, H, 1><<<blocks, static_cast<unsigned>(threads), 0, p.stream>>>(p);
  } else if (C > int64_t{MOST_THREADS} * KEPT * N) {
    forward_looped<T, H, N><<<blocks, MOST_THREADS, 0, p.stream>>>(p);
  } else {
    const int64_t threads = (C / N + KEPT - 1) / KEPT;
    forward_kept<T, H, N>
        <<<blocks, static_cast<unsigned>((threads + WARP - 1) / WARP * WARP), 0, p.stream>>>(p);
  }
  SLUICE_CHECK_LAUNCH("rms_norm_forward");
}

template void rms_norm_forward(const RmsNormForward<float>&);
template void rms_norm_forward(const RmsNormForward<bfloat16>&);
template void rms_norm_forward(const RmsNormForward<bfloat16, float>&);

}  // namespace cuda
}  // namespace sluice::kernels
