#include "kernels/activation/gated_activation.h"

#include "kernels/activation/activation_functions_cpu.h"

namespace sluice::kernels::cpu {

namespace {

// One for both passes, so that the second time has the bits of the first.
template <class T, class Function>
[[gnu::noinline]] void activate_row(const T* gate, const T* up, int64_t columns, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < columns; ++i) y[i] = Function::value(gate[i]) * up[i];
}

}  // namespace

template <class T>
void gated_activation_forward(const GatedActivationForward<T>& p) {
  visit_activation<T>(p.activation, [&]<class Function>() {
#pragma omp parallel for if (p.rows * p.columns > 16384)
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* gate = p.gate_up + row * p.gate_up_stride;
      activate_row<T, Function>(gate, gate + p.columns, p.columns, p.y + row * p.y_stride);
    }
  });
}

template <class T>
void gated_activation_backward(const GatedActivationBackward<T>& p) {
  visit_activation<T>(p.activation, [&]<class Function>() {
#pragma omp parallel for if (p.rows * p.columns > 16384)
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* gate = p.gate_up + row * p.gate_up_stride;
      const T* up = gate + p.columns;
      const T* dy = p.dy + row * p.dy_stride;
      T* dgate = p.dgate_up + row * p.dgate_up_stride;
      T* dup = dgate + p.columns;
      if (p.accumulate) {
#pragma omp simd
        for (int64_t i = 0; i < p.columns; ++i) {
          dgate[i] += dy[i] * up[i] * Function::slope(gate[i]);
          dup[i] += dy[i] * Function::value(gate[i]);
        }
      } else {
#pragma omp simd
        for (int64_t i = 0; i < p.columns; ++i) {
          dgate[i] = dy[i] * up[i] * Function::slope(gate[i]);
          dup[i] = dy[i] * Function::value(gate[i]);
        }
      }
      if (p.y != nullptr) activate_row<T, Function>(gate, up, p.columns, p.y + row * p.y_stride);
    }
  });
}

template void gated_activation_forward(const GatedActivationForward<float>&);
template void gated_activation_forward(const GatedActivationForward<double>&);
template void gated_activation_backward(const GatedActivationBackward<float>&);
template void gated_activation_backward(const GatedActivationBackward<double>&);

}  // namespace sluice::kernels::cpu
