#include "kernels/activation/gated_activation.h"

#include "kernels/activation/activation_functions.cuh"
#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

template <class T>
struct Forward {
  GatedActivationForward<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> gate, up;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    const T* from = p.gate_up + row * p.gate_up_stride + column;
    return {Pack<T, N>::load(from), Pack<T, N>::load(from + p.columns)};
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float y[N];
    with_activation<T>(p.activation, [&](auto function) {
#pragma unroll
      for (int i = 0; i < N; ++i) y[i] = function.value(loaded.gate[i]) * loaded.up[i];
    });
    Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

template <class T>
struct Backward {
  GatedActivationBackward<T> p;
  static constexpr int BLOCKS = 3;

  template <int N>
  struct Loaded {
    Pack<T, N> gate, up, dy;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    const T* from = p.gate_up + row * p.gate_up_stride + column;
    return {Pack<T, N>::load(from), Pack<T, N>::load(from + p.columns),
            Pack<T, N>::load(p.dy + row * p.dy_stride + column)};
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float dgate[N], dup[N], y[N];
    with_activation<T>(p.activation, [&](auto function) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float gate = loaded.gate[i], dy = loaded.dy[i];
        const float value = function.value(gate);
        y[i] = value * loaded.up[i];
        dgate[i] = dy * loaded.up[i] * function.slope(gate);
        dup[i] = dy * value;
      }
    });
    T* to = p.dgate_up + row * p.dgate_up_stride + column;
    if (p.accumulate) {
      const auto old_dgate = Pack<T, N>::load(to), old_dup = Pack<T, N>::load(to + p.columns);
#pragma unroll
      for (int i = 0; i < N; ++i) dgate[i] += old_dgate[i], dup[i] += old_dup[i];
    }
    Pack<T, N>::of(dgate).store(to);
    Pack<T, N>::of(dup).store(to + p.columns);
    if (p.y != nullptr) Pack<T, N>::of(y).store(p.y + row * p.y_stride + column);
  }
};

}  // namespace

namespace cuda {

template <class T>
void gated_activation_forward(const GatedActivationForward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable =
      can_pack<N>(p.gate_up, p.gate_up_stride, p.columns) && can_pack<N>(p.y, p.y_stride, p.columns);
  launch_rows<T>(Forward<T>{p}, p.rows, p.columns, packable, p.stream, "gated_activation_forward");
}

template <class T>
void gated_activation_backward(const GatedActivationBackward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.gate_up, p.gate_up_stride, p.columns) &&
                        can_pack<N>(p.dy, p.dy_stride, p.columns) &&
                        can_pack<N>(p.dgate_up, p.dgate_up_stride, p.columns) &&
                        (p.y == nullptr || can_pack<N>(p.y, p.y_stride, p.columns));
  launch_rows<T>(Backward<T>{p}, p.rows, p.columns, packable, p.stream, "gated_activation_backward");
}

template void gated_activation_forward(const GatedActivationForward<float>&);
template void gated_activation_forward(const GatedActivationForward<bfloat16>&);
template void gated_activation_backward(const GatedActivationBackward<float>&);
template void gated_activation_backward(const GatedActivationBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
