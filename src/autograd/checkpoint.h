// Activation recomputation: run a function without a tape, and run it again, with one, when its gradient is
// due.
#pragma once

#include <functional>
#include <vector>

#include "autograd/variable.h"

namespace sluice {

using RecomputableFunction = std::function<std::vector<Variable>(const std::vector<Variable>&)>;

// Equals function(inputs), value and gradients bit for bit, but keeps only the inputs until backward.
// Leaves that `function` captures (parameters) receive their gradients too. It must be free of side effects.
std::vector<Variable> checkpoint(const RecomputableFunction& function, const std::vector<Variable>& inputs);

}  // namespace sluice
