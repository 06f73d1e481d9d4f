#include "kernels/loss/scaled_add.h"

#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

template <class T>
struct ScaledAdd {
  ScaledAddParams<T> p;

  template <int N>
  struct Loaded {
    float factor;
    Pack<T, N> x, y;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    Loaded<N> loaded;
    loaded.factor = *p.factor;
    loaded.x = Pack<T, N>::load(p.x + row * p.x_stride + column);
    if (p.accumulate) loaded.y = Pack<T, N>::load(p.y + row * p.y_stride + column);
    return loaded;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float y[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float scaled = loaded.factor * loaded.x[i];
      y[i] = p.accumulate ? loaded.y[i] + scaled : scaled;
    }
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

}  // namespace

namespace cuda {

template <class T>
void scaled_add(const ScaledAddParams<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.x, p.x_stride, p.columns) && can_pack<N>(p.y, p.y_stride, p.columns);
  launch_rows<T>(ScaledAdd<T>{p}, p.rows, p.columns, packable, p.stream, "scaled_add");
}

template void scaled_add(const ScaledAddParams<float>&);
template void scaled_add(const ScaledAddParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
