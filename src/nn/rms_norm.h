// RMSNorm with an optional learned scale.
#pragma once

#include "nn/module.h"
#include "nn/residual_stream.h"
#include "ops/residual.h"

namespace sluice::nn {

class RmsNorm : public Module {
 public:
  // `affine` false: no weight, nothing in the checkpoint.
  RmsNorm(int64_t columns, double eps, bool affine);

  // Of the stream with its branch added, in the compute dtype.
  ops::ResidualNorm forward(const ResidualStream& stream, DType compute) const;
  // The scale, undefined without one: for ops that fuse the norm with what follows.
  Variable weight() const;
  double eps() const { return eps_; }

 private:
  double eps_;
  Parameter* weight_ = nullptr;
};

}  // namespace sluice::nn
