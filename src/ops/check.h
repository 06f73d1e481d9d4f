// Argument checks shared by the ops; each throws Error(kInternal) as "[op] expected ..., got ...".
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

// Same dtype and device.
void require_like(const char* op, const char* name, const Tensor& tensor, const Tensor& reference);
// Of accumulate_dtype() of the reference's, on its device: weights that are not rounded to the compute type.
void require_exact(const char* op, const char* name, const Tensor& tensor, const Tensor& reference);
void require_shape(const char* op, const char* name, const Tensor& tensor, const Shape& shape);
void require_rank(const char* op, const char* name, const Tensor& tensor, int rank);
void require_dtype(const char* op, const char* name, const Tensor& tensor, DType dtype);

// nullptr for an undefined tensor.
template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}
template <class T>
T* data_or_null(const Variable& variable) {
  return data_or_null<T>(variable.value());
}

}  // namespace sluice::ops
