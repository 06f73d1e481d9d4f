#include "kernels/activation/activation.h"

#include "kernels/activation/activation_functions.cuh"
#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

template <class T>
struct Forward {
  ActivationForward<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> x;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    return {Pack<T, N>::load(p.x + row * p.x_stride + column)};
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float y[N];
    with_activation<T>(p.activation, [&](auto function) {
#pragma unroll
      for (int i = 0; i < N; ++i) y[i] = function.value(loaded.x[i]);
    });
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

template <class T>
struct Backward {
  ActivationBackward<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> x, dy, dx;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    Loaded<N> loaded;
    loaded.x = Pack<T, N>::load(p.x + row * p.x_stride + column);
    loaded.dy = Pack<T, N>::load(p.dy + row * p.dy_stride + column);
    if (p.accumulate) loaded.dx = Pack<T, N>::load(p.dx + row * p.dx_stride + column);
    return loaded;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float dx[N];
    with_activation<T>(p.activation, [&](auto function) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float gradient = loaded.dy[i] * function.slope(loaded.x[i]);
        dx[i] = p.accumulate ? loaded.dx[i] + gradient : gradient;
      }
    });
    Pack<T, N>::of(dx).store(p.dx + row * p.dx_stride + column);
  }
};

}  // namespace

namespace cuda {

template <class T>
void activation_forward(const ActivationForward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.x, p.x_stride, p.columns) && can_pack<N>(p.y, p.y_stride, p.columns);
  launch_rows<T>(Forward<T>{p}, p.rows, p.columns, packable, p.stream, "activation_forward");
}

template <class T>
void activation_backward(const ActivationBackward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.x, p.x_stride, p.columns) &&
                        can_pack<N>(p.dy, p.dy_stride, p.columns) &&
                        can_pack<N>(p.dx, p.dx_stride, p.columns);
  launch_rows<T>(Backward<T>{p}, p.rows, p.columns, packable, p.stream, "activation_backward");
}

template void activation_forward(const ActivationForward<float>&);
template void activation_forward(const ActivationForward<bfloat16>&);
template void activation_backward(const ActivationBackward<float>&);
template void activation_backward(const ActivationBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
