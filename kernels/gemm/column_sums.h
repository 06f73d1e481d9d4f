// The sums of a matrix's columns: a bias's gradient. They accumulate in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct ColumnSums {
  int64_t rows = 0, columns = 0;
  const T* x = nullptr;  // [rows, columns], row stride x_stride
  int64_t x_stride = 0;
  accumulate_t<T>* sums = nullptr;  // [columns]
  bool accumulate = false;          // sums += instead of =
  void* workspace = nullptr;        // CUDA: of column_sums_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void column_sums(const ColumnSums<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void column_sums(const ColumnSums<T>& params);
template <class T>
int64_t column_sums_workspace(const ColumnSums<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
