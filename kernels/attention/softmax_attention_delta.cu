// delta = rowsum(dO . o), what every gradient of a score subtracts. Bound by memory.
#include "core/cuda_check.h"
#include "kernels/attention/attention_paths.h"
#include "kernels/attention/attention_place.cuh"
#include "kernels/common/device_types.cuh"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 256;

// `lanes` neighbouring lanes (a power of two) share a row of one head, N elements each at a time. How many
// rows there are only the device knows: blocks walk on until they meet the end.
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    rowsum_of_products(const __grid_constant__ SoftmaxAttentionBackward<T> p, int lanes) {
  const AttentionShape& s = p.shape;
  const int64_t items = s.q_offsets[s.sequences] * s.heads;
  const int per_block = THREADS / lanes, lane = static_cast<int>(threadIdx.x) % lanes;
  const int packs = static_cast<int>(s.head_dim) / N;
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * per_block; base < items;
       base += static_cast<int64_t>(gridDim.x) * per_block) {
    const int64_t item = base + threadIdx.x / lanes;
    float sum = 0.f;
    if (item < items) {
      const int64_t row = item / s.heads, column = item % s.heads * s.head_dim;
      for (int i = lane; i < packs; i += lanes) {
        const auto o = Pack<T, N>::load(p.o + row * p.o_stride + column + i * N);
        const auto d_o = Pack<T, N>::load(p.d_o + row * p.d_o_stride + column + i * N);
#pragma unroll
        for (int e = 0; e < N; ++e) sum = fmaf(o[e], d_o[e], sum);
      }
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
    if (item < items && lane == 0) p.delta[item] = sum;
  }
}

template <int N, class T>
void launch(const SoftmaxAttentionBackward<T>& p) {
  constexpr int64_t kMostBlocks = 8192;
  const AttentionShape& s = p.shape;
  int lanes = 1;
  while (lanes < 32 && lanes * N < s.head_dim) lanes *= 2;
  const int64_t blocks = divide_up(s.sequences * s.longest_q * s.heads, THREADS / lanes);
  rowsum_of_products<T, N>
      <<<static_cast<unsigned>(std::min(blocks, kMostBlocks)), THREADS, 0, p.stream>>>(p, lanes);
  SLUICE_CHECK_LAUNCH("softmax_attention_delta");
}

}  // namespace

template <class T>
void cuda::attention_delta(const SoftmaxAttentionBackward<T>& p) {
  constexpr int N = PACK<T>;
  const int64_t columns = p.shape.head_dim;
  if (can_pack<N>(p.o, p.o_stride, columns) && can_pack<N>(p.d_o, p.d_o_stride, columns)) {
    launch<N>(p);
  } else {
    launch<1>(p);
  }
}

template void cuda::attention_delta(const SoftmaxAttentionBackward<float>&);
template void cuda::attention_delta(const SoftmaxAttentionBackward<bfloat16>&);

}  // namespace sluice::kernels
