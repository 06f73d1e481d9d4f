// RMSNorm of each head, times a swish gate (formula in kernels/linear_attention/gated_head_norm.h).
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

// o [..., heads * D], gate like o or undefined (norm only), weight [D] or undefined (ones); returns a dense
// tensor of o's shape. The definition: multiply(rms_norm(o as [..., heads, D], weight, eps), silu(gate)).
Variable gated_head_norm(const Variable& o, const Variable& gate, const Variable& weight, int64_t heads,
                         double eps);

}  // namespace sluice::ops
