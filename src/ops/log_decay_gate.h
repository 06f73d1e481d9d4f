// The log decay of gated linear attention from its pre-activation (formula in
// kernels/linear_attention/log_decay_gate.h).
#pragma once

#include <optional>

#include "autograd/variable.h"

namespace sluice::ops {

// a [..., C] -> g = max(log sigmoid(a) / normalizer, clamp_min); without clamp_min nothing is clamped.
Variable log_decay_gate(const Variable& a, double normalizer, std::optional<double> clamp_min = std::nullopt);

}  // namespace sluice::ops
