// RMSNorm over rows (Zhang and Sennrich 2019, eq. 4):
//   y = h * rstd * weight,   rstd = (mean(h^2) + eps)^-1/2 over the columns.
// h is T or, in the residual stream, accumulate_t<T>: a stream of bfloat16 would lose a little at every
// layer. On the CPU each row's sums accumulate in double, those over rows in T; on CUDA in float.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T, class H = T>
struct RmsNormForward {
  int64_t rows = 0, columns = 0;
  double eps = 1e-6;
  const H* h = nullptr;  // [rows, columns], row stride h_stride
  int64_t h_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [columns], or null: ones
  T* y = nullptr;                           // [rows, columns] dense
  accumulate_t<T>* rstd = nullptr;          // [rows], or null when no backward follows
  Stream stream = nullptr;
};

// dh = dresidual + d(norm)/dh . dy;  dweight += sum over rows of dy * h * rstd.
template <class T, class H = T>
struct RmsNormBackward {
  int64_t rows = 0, columns = 0;
  const H* h = nullptr;  // [rows, columns], row stride h_stride: what was normalised
  int64_t h_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [columns] or null
  const accumulate_t<T>* rstd = nullptr;    // [rows]
  const T* dy = nullptr;  // [rows, columns], row stride dy_stride; null: no gradient through y
  int64_t dy_stride = 0;
  const accumulate_t<T>* dresidual =
      nullptr;      // [rows, columns] dense: gradient into h from elsewhere, or null
  H* dh = nullptr;  // [rows, columns], row stride dh_stride, or null
  int64_t dh_stride = 0;
  bool accumulate_dh = false;          // dh += instead of =
  T* rounded = nullptr;                // [rows, columns] dense: what dh gets, as T; or null
  accumulate_t<T>* dweight = nullptr;  // [columns], always +=; or null
  void* workspace = nullptr;           // CUDA: of rms_norm_backward_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T, class H>
void rms_norm_forward(const RmsNormForward<T, H>& params);
template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& params);
}  // namespace cpu

namespace cuda {
template <class T, class H>
void rms_norm_forward(const RmsNormForward<T, H>& params);
template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& params);
template <class T, class H>
int64_t rms_norm_backward_workspace(const RmsNormBackward<T, H>& params);
}  // namespace cuda

}  // namespace sluice::kernels
