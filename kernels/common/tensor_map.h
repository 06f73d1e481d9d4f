// Maps that tell bulk copies of tiles where rows lie (sm_90). Tiles arrive as wgmma.cuh has them: 64 columns,
// 16-byte pieces permuted by piece ^ (row & 7).
#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/bfloat16.h"

namespace sluice::kernels {

// Whether the driver makes them.
bool has_tensor_maps();

// Of a matrix [rows, columns], rows `stride` elements apart, for copies of [box_rows, 64] each. There may be
// fewer rows than said: copies must stay inside those that exist.
CUtensorMap map_of_rows(const bfloat16* data, int64_t columns, int64_t rows, int64_t stride, int box_rows);
// Of rows [heads, columns], for copies of [box_rows, 64] of one head: behind its columns they bring zeros.
CUtensorMap map_of_heads(const bfloat16* data, int64_t columns, int64_t heads, int64_t rows, int64_t stride,
                         int box_rows);

}  // namespace sluice::kernels
