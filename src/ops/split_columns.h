// Cuts the result of a merged projection into its parts without a copy, forward and backward: the parts are
// views, and their gradients are written side by side into one buffer.
#pragma once

#include <functional>
#include <vector>

#include "autograd/variable.h"

namespace sluice::ops {

// x [..., sum of widths] -> one [..., widths[i]] view each. Widths must add up to x's last size.
std::vector<Variable> split_columns(const Variable& x, const std::vector<int64_t>& widths);

// The same for an op that has changed x's columns in place, and changes their gradient back before it is
// handed on: memory that is nobody else's.
std::vector<Variable> split_changed_columns(const char* op, const Variable& x,
                                            const std::vector<int64_t>& widths,
                                            std::function<void(const Tensor& gradient)> change_back);

}  // namespace sluice::ops
