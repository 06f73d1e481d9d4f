// y = factor * x, or y += factor * x, with the factor read from memory: a gradient known up to the scalar
// that arrives from above.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct ScaledAddParams {
  int64_t rows = 0, columns = 0;
  const accumulate_t<T>* factor = nullptr;  // [1]
  const T* x = nullptr;                     // [rows, columns], row stride x_stride
  int64_t x_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  bool accumulate = false;  // y += instead of =
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void scaled_add(const ScaledAddParams<T>& params);
}

namespace cuda {
template <class T>
void scaled_add(const ScaledAddParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
