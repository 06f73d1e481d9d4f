// Maps that tell bulk copies where rows lie.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/bfloat16.h"

namespace sluice::kernels {

// Of a matrix [rows, columns], rows `stride` elements apart, for copies of [box_rows, 64] each. There may be
// fewer rows than said: copies must stay inside those that exist.
CUtensorMap map_of_rows(const bfloat16* data, int64_t columns, int64_t rows, int64_t stride, int box_rows);

}  // namespace sluice::kernels
