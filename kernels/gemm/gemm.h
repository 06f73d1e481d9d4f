// Matrix product on row-major matrices: c = alpha * op(a) op(b) + beta * c, or + addend, or + bias in every
// row; rounded to Output once, at the end. CPU: CBLAS in T, accumulation in T. CUDA: cuBLASLt, accumulation
// in float (TF32 never), Output T or float: a weight gradient is added to float memory from bfloat16 factors.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T, class Output = T>
struct GemmParams {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;  // [m, k], or [k, m] when transpose_a
  int64_t a_stride = 0;  // elements from row to row, as for b and c
  bool transpose_a = false;
  const T* b = nullptr;  // [k, n], or [n, k] when transpose_b
  int64_t b_stride = 0;
  bool transpose_b = false;
  Output* c = nullptr;  // [m, n]
  int64_t c_stride = 0;
  accumulate_t<T> alpha = 1;
  accumulate_t<T> beta = 0;        // 0: c is not read
  const Output* addend = nullptr;  // [m, n], row stride c_stride: in place of beta * c
  const T* bias = nullptr;         // [n], of Output's type; without beta and addend
  void* workspace = nullptr;       // CUDA: gemm_workspace(params) bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void gemm(const GemmParams<T>& params);
}

namespace cuda {
// T, Output: float, float; bfloat16, bfloat16; bfloat16, float. Rows of every matrix must begin at multiples
// of 16 bytes for full speed; any others work.
template <class T, class Output>
void gemm(const GemmParams<T, Output>& params);
template <class T, class Output>
int64_t gemm_workspace(const GemmParams<T, Output>& params);
}  // namespace cuda

}  // namespace sluice::kernels
