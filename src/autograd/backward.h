// Walks the tape from the roots back to the leaves, newest node first, freeing nodes on the way.
#pragma once

#include <vector>

#include "autograd/variable.h"

namespace sluice {

// Gradients of sum_i <roots[i], gradients[i]> with respect to every leaf. Each gradient has its root's shape
// and dtype. The part of the tape that was walked cannot be walked again.
void backward(const std::vector<Variable>& roots, const std::vector<Tensor>& gradients);

// For a root of one element; its gradient is `scale`.
void backward(const Variable& root, double scale = 1.0);

}  // namespace sluice
