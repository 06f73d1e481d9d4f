// y = factor * sum of x, accumulated in double: in order on the CPU, in a tree of fixed shape on CUDA (T:
// float).
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct ScaledSumParams {
  int64_t count = 0;
  const T* x = nullptr;  // [count]
  double factor = 1;
  T* y = nullptr;  // [1]
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void scaled_sum(const ScaledSumParams<T>& params);
}

namespace cuda {
template <class T>
void scaled_sum(const ScaledSumParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
