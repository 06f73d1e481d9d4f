// The SwiGLU feed-forward layer: down(silu(gate(x)) * up(x)) (Shazeer 2020), gate and up from one product.
#pragma once

#include "nn/linear.h"

namespace sluice::nn {

class GatedMlp : public Module {
 public:
  GatedMlp(int64_t hidden_size, int64_t intermediate_size);

  Branch forward(const Variable& x) const;  // x [N, hidden_size]
  double flops_per_token() const;           // of the forward pass

 private:
  Linear gate_up_;
  Linear down_;
};

}  // namespace sluice::nn
