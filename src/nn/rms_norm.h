// RMSNorm with an optional learned scale.
#pragma once

#include "nn/module.h"
#include "ops/rms_norm.h"

namespace sluice::nn {

class RmsNorm : public Module {
 public:
  // `affine` false: no weight, nothing in the checkpoint.
  RmsNorm(int64_t columns, double eps, bool affine);

  Variable forward(const Variable& x) const;
  // Adds delta to the residual stream first; an undefined delta adds nothing.
  ops::ResidualNorm add_forward(const Variable& x, const Variable& delta) const;
  // The scale, undefined without one: for ops that fuse the norm with what follows.
  Variable weight() const;
  double eps() const { return eps_; }

 private:
  double eps_;
  Parameter* weight_ = nullptr;
};

}  // namespace sluice::nn
