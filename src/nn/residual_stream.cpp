#include "nn/residual_stream.h"

#include "ops/linear.h"

namespace sluice::nn {

Variable Branch::product() const { return ops::linear(input.computed(), weight); }

ResidualStream ResidualStream::settled() const {
  if (!branch.defined()) return *this;
  return {ops::linear_add(hidden, branch.input, branch.weight), {}};
}

}  // namespace sluice::nn
