// What the ops that contain a gated activation share: its two passes, on tensors.
#pragma once

#include "autograd/tape.h"
#include "ops/activation.h"

namespace sluice::ops {

// Error(kInternal) names `op` when gate_up is not [..., 2 I].
void check_gate_up(const char* op, const Tensor& gate_up);

// gate_up [..., 2 I] -> f(gate) * up [..., I]
Tensor activate_gated(const Tensor& gate_up, Activation function);

// dgate_up from dy, and into y, where that is defined, what activate_gated() makes, bit for bit; y may be dy.
void gated_activation_gradient(const Tensor& gate_up, Activation function, const Tensor& dy,
                               const GradientTarget& dgate_up, const Tensor& y = Tensor());

}  // namespace sluice::ops
