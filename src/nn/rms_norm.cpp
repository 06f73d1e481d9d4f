#include "nn/rms_norm.h"

namespace sluice::nn {

RmsNorm::RmsNorm(int64_t columns, double eps, bool affine) : eps_(eps) {
  if (affine) weight_ = &add_parameter("weight", Shape{columns}, ParameterRole::kNorm, Initializer::kOnes);
}

Variable RmsNorm::weight() const { return weight_ != nullptr ? weight_->variable() : Variable(); }

Variable RmsNorm::forward(const Variable& x) const { return ops::rms_norm(x, weight(), eps_); }

ops::ResidualNorm RmsNorm::add_forward(const Variable& x, const Variable& delta) const {
  if (!delta.defined()) return {x, forward(x)};
  return ops::add_rms_norm(x, delta, weight(), eps_);
}

}  // namespace sluice::nn
