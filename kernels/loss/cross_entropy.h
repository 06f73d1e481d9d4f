// Cross-entropy of integer labels on a block of logits, with the gradient written over them:
//   nll = log(sum_j exp(z_j)) - z_label;   dz = (softmax(z) - onehot(label)) * gradient_scale.
// Rows whose label is ignore_index have nll 0 and gradient 0; any other label outside [0, columns) gives NaN
// for both. The maximum is taken out before the exponentials; their sum accumulates in T over stretches of
// 1024 columns and in double across them (CUDA: float throughout).
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct CrossEntropyParams {
  int64_t rows = 0, columns = 0;
  T* logits = nullptr;  // [rows, columns], row stride logits_stride; overwritten when gradients are wanted
  int64_t logits_stride = 0;
  const int32_t* labels = nullptr;  // [rows], each in [0, columns) or ignore_index
  int32_t ignore_index = -100;
  accumulate_t<T>* nll = nullptr;  // [rows]
  bool want_gradient = false;
  double gradient_scale = 1;
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void cross_entropy(const CrossEntropyParams<T>& params);
}

namespace cuda {
template <class T>
void cross_entropy(const CrossEntropyParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
