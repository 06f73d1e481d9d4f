// The log decay of gated linear attention from its pre-activation (Yang et al. 2023, section 4.4):
//   g = max(log sigmoid(a) / normalizer, clamp_min),   log sigmoid(a) = min(a, 0) - log(1 + e^{-|a|}).
// The gradient passes where the value is not below the clamp, the clamp itself included. Arithmetic in T on
// the CPU, in float on CUDA.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct LogDecayGateForward {
  int64_t rows = 0, columns = 0;
  double normalizer = 16;
  double clamp_min = -std::numeric_limits<double>::infinity();
  const T* a = nullptr;  // [rows, columns], row stride a_stride
  int64_t a_stride = 0;
  T* g = nullptr;  // [rows, columns], row stride g_stride
  int64_t g_stride = 0;
  Stream stream = nullptr;
};

// da = dg * sigmoid(-a) / normalizer, or 0 where clamped.
template <class T>
struct LogDecayGateBackward {
  int64_t rows = 0, columns = 0;
  double normalizer = 16;
  double clamp_min = -std::numeric_limits<double>::infinity();
  const T* a = nullptr;  // [rows, columns], row stride a_stride
  int64_t a_stride = 0;
  const T* dg = nullptr;  // [rows, columns], row stride dg_stride
  int64_t dg_stride = 0;
  T* da = nullptr;  // [rows, columns], row stride da_stride
  int64_t da_stride = 0;
  bool accumulate_da = false;  // da += instead of =
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void log_decay_gate_forward(const LogDecayGateForward<T>& params);
template <class T>
void log_decay_gate_backward(const LogDecayGateBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void log_decay_gate_forward(const LogDecayGateForward<T>& params);
template <class T>
void log_decay_gate_backward(const LogDecayGateBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
