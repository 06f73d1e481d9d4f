#include "kernels/rope/rotary.h"

#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

// Columns run over the pairs of all heads: heads * half of them.
template <class T>
struct Turn {
  RotaryParams<T> p;

  template <int N>
  struct Loaded {
    Pack<float, N> cosine, sine;
    Pack<T, N> first, second, old_first, old_second;
  };
  // Where the pair's first element lies in a row.
  __device__ int64_t first_of(int64_t column) const {
    const auto pair = static_cast<uint32_t>(column), half = static_cast<uint32_t>(p.half);
    return column + static_cast<int64_t>(pair / half) * p.half;
  }
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    Loaded<N> loaded;
    const int64_t at = first_of(column);
    const int64_t angle =
        p.place[row] * p.half + static_cast<uint32_t>(column) % static_cast<uint32_t>(p.half);
    const T* x = p.x + row * p.x_stride + at;
    loaded.first = Pack<T, N>::load(x);
    loaded.second = Pack<T, N>::load(x + p.half);
    loaded.cosine = Pack<float, N>::load(p.cosines + angle);
    loaded.sine = Pack<float, N>::load(p.sines + angle);
    if (p.accumulate) {
      const T* y = p.y + row * p.y_stride + at;
      loaded.old_first = Pack<T, N>::load(y);
      loaded.old_second = Pack<T, N>::load(y + p.half);
    }
    return loaded;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float first[N], second[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float cosine = loaded.cosine[i], sine = p.inverse ? -loaded.sine[i] : loaded.sine[i];
      const float a = loaded.first[i] * cosine - loaded.second[i] * sine;
      const float b = loaded.second[i] * cosine + loaded.first[i] * sine;
      first[i] = p.accumulate ? loaded.old_first[i] + a : a;
      second[i] = p.accumulate ? loaded.old_second[i] + b : b;
    }
    T* y = p.y + row * p.y_stride + first_of(column);
    Pack<T, N>::of(first).store(y);
    Pack<T, N>::of(second).store(y + p.half);
  }
};

}  // namespace

namespace cuda {

template <class T>
void rotary(const RotaryParams<T>& p) {
  constexpr int N = PACK<T>;
  const int64_t pairs = p.heads * p.half;
  const bool packable = can_pack<N>(p.x, p.x_stride, p.half) && can_pack<N>(p.y, p.y_stride, p.half) &&
                        can_pack<N>(p.cosines, p.half, p.half) && can_pack<N>(p.sines, p.half, p.half);
  launch_rows<T>(Turn<T>{p}, p.rows, pairs, packable, p.stream, "rotary");
}

template void rotary(const RotaryParams<float>&);
template void rotary(const RotaryParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
