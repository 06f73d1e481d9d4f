// The last step of sums over rows: every block of a kernel leaves a row of partial sums, and these are added
// in an order that depends on their number alone.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels::cuda {

// sums[i] = (accumulate ? sums[i] : 0) + sum over b of partial[b, i], with partial [blocks, columns] dense.
void add_partial_sums(const float* partial, int64_t blocks, int64_t columns, float* sums, bool accumulate,
                      Stream stream);

}  // namespace sluice::kernels::cuda
