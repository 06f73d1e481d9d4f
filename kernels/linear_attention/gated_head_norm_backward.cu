#include <algorithm>

#include "kernels/common/math.cuh"
#include "kernels/common/partial_sums.h"
#include "kernels/linear_attention/gated_head_norm.cuh"
#include "kernels/linear_attention/gated_head_norm.h"

namespace sluice::kernels {
namespace {

// As many blocks as 132 multiprocessors hold, four each, or three of large heads, which take more registers.
// Fixed, so that the order of the weight gradient's sum is.
template <class T>
int64_t blocks_of(const GatedHeadNormBackward<T>& p) {
  const int64_t most = p.head_size > WARP * 2 * PACK<T> ? 396 : 528;
  // At most so many have work, whatever the number of lanes a head takes.
  return std::min(most, (p.rows * p.heads + HEAD_THREADS / WARP - 1) / (HEAD_THREADS / WARP));
}

template <class T, int N>
struct HeadPack {
  Pack<T, N> o, gate, dy;

  __device__ __forceinline__ void load(const GatedHeadNormBackward<T>& p, int64_t row, int64_t column) {
    o = Pack<T, N>::load(p.o + row * p.o_stride + column);
    dy = Pack<T, N>::load(p.dy + row * p.dy_stride + column);
    if (p.gate != nullptr) gate = Pack<T, N>::load(p.gate + row * p.gate_stride + column);
  }
};

// to = gradient, or += gradient
template <class T, int N>
__device__ __forceinline__ void store_gradient(T* to, bool accumulate, float (&gradient)[N]) {
  if (accumulate) {
    const auto old = Pack<T, N>::load(to);
#pragma unroll
    for (int j = 0; j < N; ++j) gradient[j] += old[j];
  }
  Pack<T, N>::of(gradient).store(to);
}

// The gate's part, with n = o * rstd, z = n * weight and y = z * SiLU(gate): writes dgate, gives dz and adds
// dz * n to dweight.
template <class T, int N>
__device__ __forceinline__ void gate_gradient(const GatedHeadNormBackward<T>& p, const HeadPack<T, N>& head,
                                              const Pack<float, N>& weight, float rstd, int64_t row,
                                              int64_t column, float (&dz)[N], float (&dweight)[N]) {
  if (p.gate == nullptr) {
#pragma unroll
    for (int j = 0; j < N; ++j) dz[j] = head.dy[j];
  } else {
    float dgate[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float gate = head.gate[j], s = sigmoid<T>(gate), dy = head.dy[j];
      dz[j] = dy * gate * s;
      // SiLU'(gate) = s + gate * s * (1 - s)
      dgate[j] = dy * (head.o[j] * rstd) * weight[j] * fmaf(gate * s, 1.0f - s, s);
    }
    if (p.dgate != nullptr) {
      store_gradient<T, N>(p.dgate + row * p.dgate_stride + column, p.accumulate_dgate, dgate);
    }
  }
#pragma unroll
  for (int j = 0; j < N; ++j) dweight[j] = fmaf(dz[j] * rstd, head.o[j], dweight[j]);
}

// Groups of lanes walk over the heads of all rows. partial [blocks, D], or null.
template <class T, int N, int KEPT>
__global__ void __launch_bounds__(HEAD_THREADS, KEPT* N <= 16 ? 4
                                                : KEPT <= 4   ? 3
                                                              : 2)
    backward(const __grid_constant__ GatedHeadNormBackward<T> p, int lanes, float* partial) {
  __shared__ float shared[HEAD_THREADS * KEPT * N];
  const int lane = threadIdx.x % lanes, group = threadIdx.x / lanes, groups = HEAD_THREADS / lanes;
  const int64_t items = p.rows * p.heads, head_size = p.head_size;
  float dweight[KEPT][N] = {};
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * groups; first < items;
       first += static_cast<int64_t>(gridDim.x) * groups) {
    const bool active = first + group < items;
    const int64_t item = active ? first + group : 0, D = active ? head_size : 0;
    const HeadPlace place(item, items, p.heads);
    const int64_t row = place.row, start = place.head * head_size;
    const float rstd = p.rstd[item];
    HeadPack<T, N> head[KEPT];
#pragma unroll
    for (int k = 0; k < KEPT; ++k) {
      const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
      if (i < D) head[k].load(p, row, start + i);
    }
    float dz[KEPT][N];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < KEPT; ++k) {
      const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
      if (i >= D) continue;
      const auto weight = load_or_ones<N>(p.weight, i);
      gate_gradient(p, head[k], weight, rstd, row, start + i, dz[k], dweight[k]);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        dz[k][j] *= weight[j];
        sum = fmaf(dz[k][j], head[k].o[j], sum);
      }
    }
    if (p.d_o == nullptr) continue;
    // With dn = dz * weight: do = rstd * (dn - n * mean(dn * n)).
    sum = reduce_lanes<Sum>(sum, lanes);
    const float projection = sum * rstd * rstd * rstd / static_cast<float>(head_size);
#pragma unroll
    for (int k = 0; k < KEPT; ++k) {
      const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
      if (i >= D) continue;
      float d_o[N];
#pragma unroll
      for (int j = 0; j < N; ++j) d_o[j] = rstd * dz[k][j] - projection * head[k].o[j];
      store_gradient<T, N>(p.d_o + row * p.d_o_stride + start + i, p.accumulate_d_o, d_o);
    }
  }
  if (partial == nullptr) return;
    // shared [groups, D]
#pragma unroll
  for (int k = 0; k < KEPT; ++k) {
    const int64_t i = static_cast<int64_t>(k * lanes + lane) * N;
    if (i >= head_size) continue;
#pragma unroll
    for (int j = 0; j < N; ++j) shared[group * head_size + i + j] = dweight[k][j];
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < head_size; i += HEAD_THREADS) {
    float sum = 0;
    for (int g = 0; g < groups; ++g) sum += shared[g * head_size + i];
    partial[blockIdx.x * head_size + i] = sum;
  }
}

}  // namespace

namespace cuda {

template <class T>
int64_t gated_head_norm_backward_workspace(const GatedHeadNormBackward<T>& p) {
  if (p.dweight == nullptr) return 0;
  return blocks_of(p) * p.head_size * static_cast<int64_t>(sizeof(float));
}

template <class T>
void gated_head_norm_backward(const GatedHeadNormBackward<T>& p) {
  if (p.rows <= 0 || p.heads <= 0) return;
  constexpr int N = PACK<T>;
  const int64_t D = p.head_size, blocks = blocks_of(p);
  const bool packable = can_pack<N>(p.o, p.o_stride, D) && can_pack<N>(p.gate, p.gate_stride, D) &&
                        can_pack<N>(p.weight, 0, D) && can_pack<N>(p.dy, p.dy_stride, D) &&
                        can_pack<N>(p.d_o, p.d_o_stride, D) && can_pack<N>(p.dgate, p.dgate_stride, D);
  float* partial = p.dweight != nullptr ? static_cast<float*>(p.workspace) : nullptr;
  with_head_layout<T>("gated_head_norm", D, packable, [&]<int kPack, int kKept>(int lanes) {
    backward<T, kPack, kKept>
        <<<static_cast<unsigned>(blocks), HEAD_THREADS, 0, p.stream>>>(p, lanes, partial);
  });
  SLUICE_CHECK_LAUNCH("gated_head_norm_backward");
  if (partial != nullptr) add_partial_sums(partial, blocks, D, p.dweight, true, p.stream);
}

template void gated_head_norm_backward(const GatedHeadNormBackward<float>&);
template void gated_head_norm_backward(const GatedHeadNormBackward<bfloat16>&);
template int64_t gated_head_norm_backward_workspace(const GatedHeadNormBackward<float>&);
template int64_t gated_head_norm_backward_workspace(const GatedHeadNormBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
