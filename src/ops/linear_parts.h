// What the ops that contain y = x W^T share: the product and its gradients, on tensors.
#pragma once

#include "autograd/tape.h"

namespace sluice::ops {

struct LinearSizes {
  int64_t rows = 0, in = 0, out = 0;
};

// Of x [..., in] and weight [out, in]; Error(kInternal) names `op` when they do not go together.
LinearSizes linear_sizes(const char* op, const Tensor& x, const Tensor& weight);

// What is added to a product before it is rounded; one of them or neither.
struct Added {
  Tensor bias;    // [out]
  Tensor addend;  // like y, of the same row stride
};

// y = x W^T + added, y of x's dtype or of accumulate_dtype() of it.
void multiply_linear(const Tensor& x, const Tensor& weight, const Added& added, const Tensor& y);

// dx = dy W
void linear_input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx);

// dW = dy^T x, in float where activations are bfloat16
void linear_weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw);

}  // namespace sluice::ops
