// RMSNorm and its fusion with the residual addition in front of it (formula in kernels/norm/rms_norm.h).
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

// x [..., C], weight [C] or undefined (ones); normalises the last dimension.
Variable rms_norm(const Variable& x, const Variable& weight, double eps);

struct ResidualNorm {
  Variable hidden;      // x + delta: the residual stream, f32 where delta is bf16
  Variable normalised;  // rms_norm of it
};

// The definition: hidden = add(x, delta); normalised = rms_norm(hidden, weight, eps) in delta's dtype, which is
// that of the weight too. x may be of delta's dtype (an embedding) or the hidden of the norm before. One pass
// over memory.
ResidualNorm add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps);

}  // namespace sluice::ops
