// The residual stream of a Transformer, and the products that are added to it. Where the model computes in
// bf16 the stream and its gradient are f32, and a product is added in the accumulators that made it: the sum
// over all layers is never rounded.
#pragma once

#include <optional>

#include "ops/activation.h"

namespace sluice::ops {

// What a product multiplies by its weight: x [N, in], or, with a gate's function, gate_up [N, 2 in], of which
// x = gated_activation(gate_up, gate). Under a SelectiveRecomputeScope such an x is not kept: the pass that
// makes gate_up's gradient makes it once more for the weight's.
struct ProductInput {
  ProductInput() = default;
  ProductInput(const Variable& x) : tensor(x) {}
  ProductInput(const Variable& gate_up, Activation function) : tensor(gate_up), gate(function) {}

  Variable tensor;
  std::optional<Activation> gate;

  Variable computed() const;  // x
};

// stream + x W^T, in accumulate_dtype() of x. `stream` [N, C] may be of x's dtype (an embedding); weight
// [C, in].
Variable linear_add(const Variable& stream, const ProductInput& x, const Variable& weight);

struct ResidualNorm {
  Variable hidden;      // the stream after the sum
  Variable normalised;  // rms_norm of it, in x's dtype
};

// The definition: hidden = linear_add(stream, x, weight); normalised = rms_norm(hidden, norm_weight, eps).
// Its backward pass makes the gradient of both in one pass over memory.
ResidualNorm linear_add_rms_norm(const Variable& stream, const ProductInput& x, const Variable& weight,
                                 const Variable& norm_weight, double eps);

}  // namespace sluice::ops
