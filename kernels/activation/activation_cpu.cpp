#include "kernels/activation/activation.h"

#include "kernels/activation/activation_functions_cpu.h"

namespace sluice::kernels::cpu {

template <class T>
void activation_forward(const ActivationForward<T>& p) {
  visit_activation<T>(p.activation, [&]<class Function>() {
#pragma omp parallel for if (p.rows * p.columns > 16384)
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* x = p.x + row * p.x_stride;
      T* y = p.y + row * p.y_stride;
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] = Function::value(x[i]);
    }
  });
}

template <class T>
void activation_backward(const ActivationBackward<T>& p) {
  visit_activation<T>(p.activation, [&]<class Function>() {
#pragma omp parallel for if (p.rows * p.columns > 16384)
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* x = p.x + row * p.x_stride;
      const T* dy = p.dy + row * p.dy_stride;
      T* dx = p.dx + row * p.dx_stride;
      if (p.accumulate) {
#pragma omp simd
        for (int64_t i = 0; i < p.columns; ++i) dx[i] += dy[i] * Function::slope(x[i]);
      } else {
#pragma omp simd
        for (int64_t i = 0; i < p.columns; ++i) dx[i] = dy[i] * Function::slope(x[i]);
      }
    }
  });
}

template void activation_forward(const ActivationForward<float>&);
template void activation_forward(const ActivationForward<double>&);
template void activation_backward(const ActivationBackward<float>&);
template void activation_backward(const ActivationBackward<double>&);

}  // namespace sluice::kernels::cpu
