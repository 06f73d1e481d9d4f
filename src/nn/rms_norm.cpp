#include "nn/rms_norm.h"

#include "ops/rms_norm.h"

namespace sluice::nn {

RmsNorm::RmsNorm(int64_t columns, double eps, bool affine) : eps_(eps) {
  if (affine) weight_ = &add_parameter("weight", Shape{columns}, ParameterRole::kNorm, Initializer::kOnes);
}

Variable RmsNorm::weight() const { return weight_ != nullptr ? weight_->variable() : Variable(); }

ops::ResidualNorm RmsNorm::forward(const ResidualStream& stream, DType compute) const {
  const auto& [hidden, branch] = stream;
  if (!branch.defined()) return {hidden, ops::rms_norm(hidden, weight(), eps_, compute)};
  return ops::linear_add_rms_norm(hidden, branch.input, branch.weight, weight(), eps_);
}

}  // namespace sluice::nn
