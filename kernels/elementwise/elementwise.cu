#include "kernels/elementwise/elementwise.h"

#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

template <class T>
struct Add {
  AddParams<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> a, b;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    return {Pack<T, N>::load(p.a + row * p.a_stride + column),
            Pack<T, N>::load(p.b + row * p.b_stride + column)};
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float y[N];
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = loaded.a[i] + loaded.b[i];
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

template <class T>
struct Multiply {
  MultiplyParams<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> a, b, y;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    Loaded<N> loaded;
    loaded.a = Pack<T, N>::load(p.a + row * p.a_stride + column);
    loaded.b = Pack<T, N>::load(p.b + row * p.b_stride + column);
    if (p.accumulate) loaded.y = Pack<T, N>::load(p.y + row * p.y_stride + column);
    return loaded;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float y[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float product = loaded.a[i] * loaded.b[i];
      y[i] = p.accumulate ? loaded.y[i] + product : product;
    }
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

template <class Params>
bool packable(const Params& p) {
  constexpr int N = 16 / sizeof(*p.a);
  return can_pack<N>(p.a, p.a_stride, p.columns) && can_pack<N>(p.b, p.b_stride, p.columns) &&
         can_pack<N>(p.y, p.y_stride, p.columns);
}

}  // namespace

namespace cuda {

template <class T>
void add(const AddParams<T>& p) {
  launch_rows<T>(Add<T>{p}, p.rows, p.columns, packable(p), p.stream, "add");
}

template <class T>
void multiply(const MultiplyParams<T>& p) {
  launch_rows<T>(Multiply<T>{p}, p.rows, p.columns, packable(p), p.stream, "multiply");
}

template void add(const AddParams<float>&);
template void add(const AddParams<bfloat16>&);
template void multiply(const MultiplyParams<float>&);
template void multiply(const MultiplyParams<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
