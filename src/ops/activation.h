// Elementwise activations, by the names that configurations use (formulas in
// kernels/activation/activation.h).
#pragma once

#include <string_view>

#include "autograd/variable.h"
#include "kernels/activation/activation.h"

namespace sluice::ops {

using Activation = kernels::Activation;

// The names of Hugging Face's activation table that make sense here, and flash-linear-attention's "sqrelu"
// and "logsigmoid". Error(kUsage) on another name lists those known.
Activation parse_activation(std::string_view name);

// x of any shape -> f(x).
Variable activation(const Variable& x, Activation function);

}  // namespace sluice::ops
