// RMSNorm of each head's output, times a swish gate: what follows gated linear attention
// (Yang et al. 2023, section 4.4). Head h of a row is columns [h * D, (h + 1) * D).
//   y = o * rstd * weight * SiLU(gate),   rstd = (mean(o^2) + eps)^-1/2 over the head's D columns.
// On the CPU the sums over a head accumulate in double, those over rows in T; on CUDA in float, for D up to
// 1024.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct GatedHeadNormForward {
  int64_t rows = 0, heads = 0, head_size = 0;  // head_size: D
  double eps = 1e-6;
  const T* o = nullptr;  // [rows, heads * D], row stride o_stride
  int64_t o_stride = 0;
  const T* gate = nullptr;  // [rows, heads * D], row stride gate_stride; null: no gate
  int64_t gate_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [D], shared by the heads; null: ones
  T* y = nullptr;                           // [rows, heads * D], row stride y_stride
  int64_t y_stride = 0;
  accumulate_t<T>* rstd = nullptr;  // [rows, heads], or null when no backward follows
  Stream stream = nullptr;
};

template <class T>
struct GatedHeadNormBackward {
  int64_t rows = 0, heads = 0, head_size = 0;
  const T* o = nullptr;  // [rows, heads * D], row stride o_stride
  int64_t o_stride = 0;
  const T* gate = nullptr;  // [rows, heads * D], row stride gate_stride; or null
  int64_t gate_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [D], or null
  const accumulate_t<T>* rstd = nullptr;    // [rows, heads]
  const T* dy = nullptr;                    // [rows, heads * D], row stride dy_stride
  int64_t dy_stride = 0;
  T* d_o = nullptr;  // [rows, heads * D], row stride d_o_stride; or null
  int64_t d_o_stride = 0;
  bool accumulate_d_o = false;  // += instead of =
  T* dgate = nullptr;           // [rows, heads * D], row stride dgate_stride; or null
  int64_t dgate_stride = 0;
  bool accumulate_dgate = false;
  accumulate_t<T>* dweight = nullptr;  // [D], always +=; or null
  void* workspace = nullptr;           // CUDA: of gated_head_norm_backward_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void gated_head_norm_forward(const GatedHeadNormForward<T>& params);
template <class T>
void gated_head_norm_backward(const GatedHeadNormBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void gated_head_norm_forward(const GatedHeadNormForward<T>& params);
template <class T>
void gated_head_norm_backward(const GatedHeadNormBackward<T>& params);
template <class T>
int64_t gated_head_norm_backward_workspace(const GatedHeadNormBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
