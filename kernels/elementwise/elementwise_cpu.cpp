#include "kernels/elementwise/elementwise.h"

namespace sluice::kernels::cpu {

template <class T>
void add(const AddParams<T>& p) {
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T *a = p.a + row * p.a_stride, *b = p.b + row * p.b_stride;
    T* y = p.y + row * p.y_stride;
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i) y[i] = a[i] + b[i];
  }
}

template <class T>
void multiply(const MultiplyParams<T>& p) {
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T *a = p.a + row * p.a_stride, *b = p.b + row * p.b_stride;
    T* y = p.y + row * p.y_stride;
    if (p.accumulate) {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] += a[i] * b[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] = a[i] * b[i];
    }
  }
}

template void add(const AddParams<float>&);
template void add(const AddParams<double>&);
template void multiply(const MultiplyParams<float>&);
template void multiply(const MultiplyParams<double>&);

}  // namespace sluice::kernels::cpu
