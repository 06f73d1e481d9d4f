// y = x W^T + b, one matrix for one or several named projections of the same input.
#pragma once

#include "nn/module.h"
#include "nn/residual_stream.h"

namespace sluice::nn {

// One projection of a merged product, as a checkpoint names it.
struct Projection {
  std::string
      name;  // "q_proj": the checkpoint holds "q_proj.weight" [width, in] and maybe "q_proj.bias" [width]
  int64_t width = 0;
};

class Linear : public Module {
 public:
  Linear(int64_t in, std::vector<Projection> projections, bool bias = false);
  Linear(int64_t in, int64_t out, bool bias = false);  // checkpoint names "weight" and "bias"

  Variable forward(const Variable& x) const;                     // [..., in] -> [..., sum of widths]
  std::vector<Variable> forward_split(const Variable& x) const;  // one view a projection
  Branch branch(const ops::ProductInput& x) const;               // forward(x) to come; without bias
  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  const std::vector<int64_t>& widths() const { return widths_; }  // of the projections

 private:
  int64_t in_;
  int64_t out_ = 0;
  std::vector<int64_t> widths_;
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sluice::nn
