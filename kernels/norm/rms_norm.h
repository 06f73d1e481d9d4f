// RMSNorm over rows, with an optional residual addition in front (Zhang and Sennrich 2019, eq. 4):
//   h = x + delta (or x);   y = h * rstd * weight,   rstd = (mean(h^2) + eps)^-1/2 over the columns.
// On the CPU each row's sums accumulate in double, those over rows in T; on CUDA in float. The residual
// stream h and its gradient are accumulate_t<T>: with T = bfloat16 a stream of T would lose a little at every
// layer.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

// X: T, or accumulate_t<T> for a residual stream.
template <class T, class X = T>
struct RmsNormForward {
  int64_t rows = 0, columns = 0;
  double eps = 1e-6;
  const X* x = nullptr;  // [rows, columns], row stride x_stride
  int64_t x_stride = 0;
  const T* delta = nullptr;         // [rows, columns] dense, or null: nothing is added
  const T* weight = nullptr;        // [columns], or null: ones
  accumulate_t<T>* h = nullptr;     // [rows, columns] dense: x + delta; null when delta is
  T* y = nullptr;                   // [rows, columns] dense
  accumulate_t<T>* rstd = nullptr;  // [rows], or null when no backward follows
  Stream stream = nullptr;
};

// dh = dresidual + d(norm)/dh . dy;  dweight += sum over rows of dy * h * rstd.
// H: T, or accumulate_t<T> for a residual stream.
template <class T, class H = T>
struct RmsNormBackward {
  int64_t rows = 0, columns = 0;
  const H* h = nullptr;  // [rows, columns], row stride h_stride: what was normalised
  int64_t h_stride = 0;
  const T* weight = nullptr;              // [columns] or null
  const accumulate_t<T>* rstd = nullptr;  // [rows]
  const T* dy = nullptr;  // [rows, columns], row stride dy_stride; null: no gradient through y
  int64_t dy_stride = 0;
  const accumulate_t<T>* dresidual =
      nullptr;      // [rows, columns] dense: gradient into h from elsewhere, or null
  H* dh = nullptr;  // [rows, columns], row stride dh_stride, or null
  int64_t dh_stride = 0;
  bool accumulate_dh = false;          // dh += instead of =
  T* ddelta = nullptr;                 // [rows, columns] dense: what dh gets, rounded to T; or null
  accumulate_t<T>* dweight = nullptr;  // [columns], always +=; or null
  void* workspace = nullptr;           // CUDA: of rms_norm_backward_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T, class X>
void rms_norm_forward(const RmsNormForward<T, X>& params);
template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& params);
}  // namespace cpu

namespace cuda {
template <class T, class X>
void rms_norm_forward(const RmsNormForward<T, X>& params);
template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& params);
template <class T, class H>
int64_t rms_norm_backward_workspace(const RmsNormBackward<T, H>& params);
}  // namespace cuda

}  // namespace sluice::kernels
