// y = x W^T (+ bias): the matrix product of every projection.
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

// x [..., in], weight [out, in] as Hugging Face stores it, bias [out] or undefined; returns [..., out].
// The weight gradient is added straight into the parameter's gradient memory.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = Variable());

// x [N, in], weight [out, in] -> x W^T [N, out] without a gradient, in f32 where x is bf16: logits that are
// looked at, not trained on.
Tensor project(const Tensor& x, const Tensor& weight);

}  // namespace sluice::ops
