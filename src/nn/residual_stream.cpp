#include "nn/residual_stream.h"

#include "ops/gated_activation.h"
#include "ops/linear.h"

namespace sluice::nn {

Variable Branch::product() const {
  return ops::linear(input.gate ? ops::gated_activation(input.tensor, *input.gate) : input.tensor, weight);
}

ResidualStream ResidualStream::settled() const {
  if (!branch.defined()) return *this;
  return {ops::linear_add(hidden, branch.input, branch.weight), {}};
}

}  // namespace sluice::nn
