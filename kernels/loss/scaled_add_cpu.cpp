#include "kernels/loss/scaled_add.h"

namespace sluice::kernels::cpu {

template <class T>
void scaled_add(const ScaledAddParams<T>& p) {
  const T factor = *p.factor;
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T* x = p.x + row * p.x_stride;
    T* y = p.y + row * p.y_stride;
    if (p.accumulate) {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] += factor * x[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] = factor * x[i];
    }
  }
}

template void scaled_add(const ScaledAddParams<float>&);
template void scaled_add(const ScaledAddParams<double>&);

}  // namespace sluice::kernels::cpu
