// Elementwise activations: y = f(x), dx = dy * f'(x). Arithmetic in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels {

enum class Activation {
  kIdentity,
  kRelu,         // max(x, 0); slope 0 at 0
  kRelu6,        // min(max(x, 0), 6); slope 0 at both corners
  kSquaredRelu,  // max(x, 0)^2 (So et al. 2021)
  kSigmoid,      // 1 / (1 + e^-x)
  kLogSigmoid,   // -log(1 + e^-x)
  kSilu,         // x sigmoid(x), also called swish (Elfwing et al. 2018)
  kGelu,         // x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016)
  kGeluTanh,     // its approximation x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), same paper
  kTanh,
  kElu,       // x for x > 0, otherwise e^x - 1 (Clevert et al. 2016, alpha 1)
  kSoftplus,  // log(1 + e^x)
  kMish,      // x tanh(softplus(x)) (Misra 2020)
};

template <class T>
struct ActivationForward {
  int64_t rows = 0, columns = 0;
  Activation activation = Activation::kIdentity;
  const T* x = nullptr;  // [rows, columns], row stride x_stride
  int64_t x_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

template <class T>
struct ActivationBackward {
  int64_t rows = 0, columns = 0;
  Activation activation = Activation::kIdentity;
  const T* x = nullptr;  // [rows, columns], row stride x_stride: the forward input
  int64_t x_stride = 0;
  const T* dy = nullptr;  // [rows, columns], row stride dy_stride
  int64_t dy_stride = 0;
  T* dx = nullptr;  // [rows, columns], row stride dx_stride
  int64_t dx_stride = 0;
  bool accumulate = false;  // dx += instead of =
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void activation_forward(const ActivationForward<T>& params);
template <class T>
void activation_backward(const ActivationBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void activation_forward(const ActivationForward<T>& params);
template <class T>
void activation_backward(const ActivationBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
