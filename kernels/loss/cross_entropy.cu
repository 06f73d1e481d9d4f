#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/math.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/loss/cross_entropy.h"

namespace sluice::kernels {
namespace {

constexpr int MOST_THREADS = 1024;
// Packs of a row that one thread keeps in registers.
constexpr int KEPT = 8;

// exp(z - maximum). The difference is taken first: it is exact near the maximum, however large that is.
__device__ __forceinline__ float shifted_exponential(float z, float maximum) {
  return fast_power_of_two((z - maximum) * kLog2E);
}

// The row's logits after their softmax is known: writes the gradient of the pack at `column`.
template <class T, int N>
__device__ __forceinline__ void store_gradient(const CrossEntropyParams<T>& p, const Pack<T, N>& z, T* row,
                                               int64_t column, int64_t label, float maximum, float factor) {
  const auto scale = static_cast<float>(p.gradient_scale);
  float dz[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float probability = shifted_exponential(z[i], maximum) * factor;
    dz[i] = column + i == label ? probability - scale : probability;
  }
  Pack<T, N>::of(dz).store(row + column);
}

// Rows without a gradient, or with one of NaN. True when the row is done.
template <class T, int N>
__device__ __forceinline__ bool finish_without_label(const CrossEntropyParams<T>& p, T* row, int32_t label) {
  const bool ignored = label == p.ignore_index;
  if (!ignored && label >= 0 && label < p.columns) return false;
  const float value = ignored ? 0.0f : NAN;
  if (threadIdx.x == 0) p.nll[blockIdx.x] = value;
  if (!p.want_gradient) return true;
  Pack<T, N> fill;
#pragma unroll
  for (int i = 0; i < N; ++i) fill.set(i, value);
  for (int64_t column = threadIdx.x * N; column < p.columns; column += static_cast<int64_t>(blockDim.x) * N) {
    fill.store(row + column);
  }
  return true;
}

// One block a row, held in registers: every logit is read once.
template <class T, int N>
__global__ void __launch_bounds__(MOST_THREADS) loss_kept(const __grid_constant__ CrossEntropyParams<T> p) {
  __shared__ float maxima[WARP], sums[WARP];
  T* row = p.logits + blockIdx.x * p.logits_stride;
  const int32_t label = p.labels[blockIdx.x];
  if (finish_without_label<T, N>(p, row, label)) return;
  const float z_label = as_float(row[label]);
  Pack<T, N> z[KEPT];
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column < p.columns) z[k] = Pack<T, N>::load(row + column);
  }
  float maximum = -INFINITY;
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column >= p.columns) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) maximum = fmaxf(maximum, z[k][i]);
  }
  maximum = reduce_block<Maximum>(maximum, maxima);
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column >= p.columns) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += shifted_exponential(z[k][i], maximum);
  }
  sum = reduce_block<Sum>(sum, sums);
  if (threadIdx.x == 0) p.nll[blockIdx.x] = logf(sum) + (maximum - z_label);
  if (!p.want_gradient) return;
  const float factor = static_cast<float>(p.gradient_scale) / sum;
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t column = (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
    if (column < p.columns) store_gradient(p, z[k], row, column, label, maximum, factor);
  }
}

// One block a row of any length, read a second and third time from the cache.
template <class T, int N>
__global__ void __launch_bounds__(MOST_THREADS) loss_looped(const __grid_constant__ CrossEntropyParams<T> p) {
  __shared__ float maxima[WARP], sums[WARP];
  T* row = p.logits + blockIdx.x * p.logits_stride;
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  const int32_t label = p.labels[blockIdx.x];
  if (finish_without_label<T, N>(p, row, label)) return;
  const float z_label = as_float(row[label]);
  float maximum = -INFINITY;
#pragma unroll 4
  for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
    const auto z = Pack<T, N>::load(row + column);
#pragma unroll
    for (int i = 0; i < N; ++i) maximum = fmaxf(maximum, z[i]);
  }
  maximum = reduce_block<Maximum>(maximum, maxima);
  float sum = 0;
#pragma unroll 4
  for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
    const auto z = Pack<T, N>::load(row + column);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += shifted_exponential(z[i], maximum);
  }
  sum = reduce_block<Sum>(sum, sums);
  if (threadIdx.x == 0) p.nll[blockIdx.x] = logf(sum) + (maximum - z_label);
  if (!p.want_gradient) return;
  const float factor = static_cast<float>(p.gradient_scale) / sum;
  for (int64_t column = threadIdx.x * N; column < p.columns; column += step) {
    store_gradient(p, Pack<T, N>::load(row + column), row, column, label, maximum, factor);
  }
}

}  // namespace

namespace cuda {

template <class T>
void cross_entropy(const CrossEntropyParams<T>& p) {
  if (p.rows <= 0) return;
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.logits, p.logits_stride, p.columns);
  const int64_t packs = packable ? p.columns / N : p.columns;
  const auto blocks = static_cast<unsigned>(p.rows);
  // Two blocks of 512 threads on a multiprocessor overlap one's loads with the other's arithmetic.
  const int64_t most = packs <= 512 * KEPT ? 512 : MOST_THREADS;
  const int64_t wanted = std::max<int64_t>(1, (packs + 1) / 2);
  const auto threads = static_cast<unsigned>(std::min(most, (wanted + WARP - 1) / WARP * WARP));
  if (!packable) {
    loss_looped<T, 1><<<blocks, threads, 0, p.stream>>>(p);
  } else if (packs > int64_t{MOST_THREADS} * KEPT) {
    loss_looped<T, N><<<blocks, threads, 0, p.stream>>>(p);
  } else {
    loss_kept<T, N><<<blocks, threads, 0, p.stream>>>(p);
  }
  SLUICE_CHECK_LAUNCH("cross_entropy");
}

template void cross_entropy(const CrossEntropyParams<float>&);
template void cross_entropy(const CrossEntropyParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
