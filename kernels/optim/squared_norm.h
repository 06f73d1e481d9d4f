// The sum of squares of a flat range, or of equal parts at equal distances, in double, the same bits for any
// number of threads, and how many of its elements are NaN or infinite (the sum is then not finite either).
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct SquaredNormParams {
  int64_t count = 0;
  const T* x = nullptr;           // [count], or [count / part, part] with a stride
  int64_t part = 0;               // 0: all in one
  int64_t stride = 0;             // elements from part to part
  double* sum = nullptr;          // [1]
  int64_t* non_finite = nullptr;  // [1]
  void* workspace = nullptr;      // CUDA (T: float): of squared_norm_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void squared_norm(const SquaredNormParams<T>& params);
}

namespace cuda {
template <class T>
void squared_norm(const SquaredNormParams<T>& params);
template <class T>
int64_t squared_norm_workspace(const SquaredNormParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
