// For tensors that are of the compute type or, where that is bf16, may be f32.
#pragma once

#include "core/dtype.h"
#include "kernels/common/accumulate.h"

namespace sluice::ops {

// Calls body.template operator()<U>() with U = T or accumulate_t<T>, which the dtype is one of.
template <class T, class Body>
void dispatch_accumulate(DType dtype, Body&& body) {
  if (dtype == dtype_of<T>()) {
    body.template operator()<T>();
  } else {
    body.template operator()<kernels::accumulate_t<T>>();
  }
}

}  // namespace sluice::ops
