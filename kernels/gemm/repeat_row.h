// One row of memory repeated, for products whose bias the library cannot add.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels::cuda {

// y [rows, columns], row stride y_stride, gets `row` [columns] in every row. T: float, bfloat16.
template <class T>
void repeat_row(const T* row, int64_t rows, int64_t columns, T* y, int64_t y_stride, Stream stream);

}  // namespace sluice::kernels::cuda
