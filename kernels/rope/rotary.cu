#include "kernels/rope/rotary.h"

#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 256, BLOCKS = 4;
// Heads that a thread turns by the same angles: it reads a table entry once for them, and their loads are on
// their way together.
constexpr int HEADS_TOGETHER = 2;

// A thread owns N pairs of a few heads of a row, `groups` heads apart; neighbours own neighbouring pairs,
// then neighbouring heads. y may be x: a thread writes nothing before it has read all of its own.
template <class T, int N, bool ACCUMULATE>
__global__ void __launch_bounds__(THREADS, ACCUMULATE ? BLOCKS - 1 : BLOCKS)
    turn(const __grid_constant__ RotaryParams<T> p, int32_t packs, int32_t groups) {
  const int32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= packs * groups) return;
  const int32_t head = index / packs;
  const int32_t half = static_cast<int32_t>(p.half), pair = index % packs * N;
  const int32_t column = head * 2 * half + pair, step = groups * 2 * half;
  const float sign = p.inverse ? -1.0f : 1.0f;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < p.rows;
       row += static_cast<int64_t>(gridDim.y) * blockDim.y) {
    const int64_t angle = p.place[row] * p.half + pair;
    const T* x = p.x + row * p.x_stride + column;
    Pack<T, N> first[HEADS_TOGETHER], second[HEADS_TOGETHER];
#pragma unroll
    for (int u = 0; u < HEADS_TOGETHER; ++u) {
      if (head + u * groups >= p.heads) continue;
      first[u] = Pack<T, N>::load(x + u * step);
      second[u] = Pack<T, N>::load(x + u * step + half);
    }
    const auto cosine = Pack<float, N>::load(p.cosines + angle);
    auto sine = Pack<float, N>::load(p.sines + angle);
#pragma unroll
    for (int i = 0; i < N; ++i) sine.set(i, sign * sine[i]);
    T* y = p.y + row * p.y_stride + column;
#pragma unroll
    for (int u = 0; u < HEADS_TOGETHER; ++u) {
      if (head + u * groups >= p.heads) continue;
      float a[N], b[N];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        // Spelled out: which product is rounded must not be the compiler's choice from case to case.
        a[i] = fmaf(first[u][i], cosine[i], -(second[u][i] * sine[i]));
        b[i] = fmaf(second[u][i], cosine[i], first[u][i] * sine[i]);
      }
      if constexpr (ACCUMULATE) {
        const auto old_a = Pack<T, N>::load(y + u * step);
        const auto old_b = Pack<T, N>::load(y + u * step + half);
#pragma unroll
        for (int i = 0; i < N; ++i) a[i] += old_a[i], b[i] += old_b[i];
      }
      Pack<T, N>::of(a).store(y + u * step);
      Pack<T, N>::of(b).store(y + u * step + half);
    }
  }
}

template <class T, int N>
void launch(const RotaryParams<T>& p) {
  const int64_t packs = p.half / N, groups = (p.heads + HEADS_TOGETHER - 1) / HEADS_TOGETHER;
  const int64_t items = packs * groups;
  SLUICE_CHECK(p.heads * p.half < int64_t{1} << 30, kUsage,
               "[rotary] {} heads of {} elements: rows of fewer than 2^31 are supported", p.heads,
               2 * p.half);
  int width = 1;
  while (width < THREADS && width < items) width *= 2;
  const dim3 block(width, THREADS / width);
  const int64_t most_tiles = 65535;  // of a grid's second dimension; the kernel loops over the rest
  const dim3 grid(static_cast<unsigned>((items + width - 1) / width),
                  static_cast<unsigned>(std::min((p.rows + block.y - 1) / block.y, most_tiles)));
  const auto kernel = p.accumulate ? turn<T, N, true> : turn<T, N, false>;
  kernel<<<grid, block, 0, p.stream>>>(p, static_cast<int32_t>(packs), static_cast<int32_t>(groups));
  SLUICE_CHECK_LAUNCH("rotary");
}

}  // namespace

namespace cuda {

template <class T>
void rotary(const RotaryParams<T>& p) {
  if (p.rows <= 0 || p.heads <= 0 || p.half <= 0) return;
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.x, p.x_stride, p.half) && can_pack<N>(p.y, p.y_stride, p.half) &&
                        can_pack<N>(p.cosines, p.half, p.half) && can_pack<N>(p.sines, p.half, p.half);
  if (packable) {
    launch<T, N>(p);
  } else {
    launch<T, 1>(p);
  }
}

template void rotary(const RotaryParams<float>&);
template void rotary(const RotaryParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
