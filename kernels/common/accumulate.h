// The type a kernel sums in, and keeps what must not be rounded in (states, norms' scales, parameter
// gradients): that of its elements, and float where those are bfloat16.
#pragma once

#include "core/bfloat16.h"

namespace sluice::kernels {

template <class T>
struct Accumulate {
  using type = T;
};
template <>
struct Accumulate<bfloat16> {
  using type = float;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

}  // namespace sluice::kernels
