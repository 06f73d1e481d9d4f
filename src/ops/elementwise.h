// Plain sums and products of equally shaped tensors: what the composed definitions of fused ops are written
// with.
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

Variable add(const Variable& a, const Variable& b);
Variable multiply(const Variable& a, const Variable& b);

}  // namespace sluice::ops
