// Cuts the result of a merged projection into its parts without a copy, forward and backward: the parts are
// views, and their gradients are written side by side into one buffer.
#pragma once

#include <vector>

#include "autograd/variable.h"

namespace sluice::ops {

// x [..., sum of widths] -> one [..., widths[i]] view each. Widths must add up to x's last size.
std::vector<Variable> split_columns(const Variable& x, const std::vector<int64_t>& widths);

}  // namespace sluice::ops
