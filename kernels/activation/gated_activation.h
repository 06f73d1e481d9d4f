// Gated feed-forward units on a merged projection (Shazeer 2020): y = f(gate) * up, where a row holds its
// gate values first, then its up values. With f = SiLU this is SwiGLU. Arithmetic in T on the CPU, in float
// on CUDA.
#pragma once

#include "kernels/activation/activation.h"

namespace sluice::kernels {

template <class T>
struct GatedActivationForward {
  int64_t rows = 0, columns = 0;
  Activation activation = Activation::kSilu;
  const T* gate_up = nullptr;  // [rows, 2 * columns], row stride gate_up_stride
  int64_t gate_up_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

// dgate = dy * up * f'(gate);  dup = dy * f(gate).
template <class T>
struct GatedActivationBackward {
  int64_t rows = 0, columns = 0;
  Activation activation = Activation::kSilu;
  const T* gate_up = nullptr;  // [rows, 2 * columns], row stride gate_up_stride
  int64_t gate_up_stride = 0;
  const T* dy = nullptr;  // [rows, columns], row stride dy_stride
  int64_t dy_stride = 0;
  T* dgate_up = nullptr;  // [rows, 2 * columns], row stride dgate_up_stride
  int64_t dgate_up_stride = 0;
  bool accumulate = false;  // dgate_up += instead of =
  // The forward pass's result once more, with its bits, or null. May be dy's own memory, of its stride.
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void gated_activation_forward(const GatedActivationForward<T>& params);
template <class T>
void gated_activation_backward(const GatedActivationBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void gated_activation_forward(const GatedActivationForward<T>& params);
template <class T>
void gated_activation_backward(const GatedActivationBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
