// Gated feed-forward units on the result of a merged projection (formulas in
// kernels/activation/gated_activation.h).
#pragma once

#include "ops/activation.h"

namespace sluice::ops {

// gate_up [..., 2I], gate first -> f(gate) * up [..., I].
// The definition: parts = split_columns(gate_up, {I, I}); multiply(activation(parts[0], f), parts[1]).
Variable gated_activation(const Variable& gate_up, Activation function);

// The same with SiLU.
Variable swiglu(const Variable& gate_up);

}  // namespace sluice::ops
