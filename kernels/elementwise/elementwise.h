// Elementwise arithmetic on rows: y = a + b, y = a * b. Arithmetic in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct AddParams {
  int64_t rows = 0, columns = 0;
  const T* a = nullptr;  // [rows, columns], row stride a_stride
  int64_t a_stride = 0;
  const T* b = nullptr;  // [rows, columns], row stride b_stride
  int64_t b_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride; may be a or b
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

template <class T>
struct MultiplyParams {
  int64_t rows = 0, columns = 0;
  const T* a = nullptr;  // [rows, columns], row stride a_stride
  int64_t a_stride = 0;
  const T* b = nullptr;  // [rows, columns], row stride b_stride
  int64_t b_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride; may be a or b
  int64_t y_stride = 0;
  bool accumulate = false;  // y += instead of =
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void add(const AddParams<T>& params);
template <class T>
void multiply(const MultiplyParams<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void add(const AddParams<T>& params);
template <class T>
void multiply(const MultiplyParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
