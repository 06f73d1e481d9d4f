// RMSNorm (formula in kernels/norm/rms_norm.h). Fused with the sum in front of it: residual.h.
#pragma once

#include <optional>

#include "autograd/variable.h"

namespace sluice::ops {

// x [..., C], weight [C] or undefined (ones); normalises the last dimension. `compute` is the dtype of the
// result: that of x, or the one whose residual stream x is (residual.h).
Variable rms_norm(const Variable& x, const Variable& weight, double eps,
                  std::optional<DType> compute = std::nullopt);

}  // namespace sluice::ops
