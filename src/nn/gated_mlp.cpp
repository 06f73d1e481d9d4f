#include "nn/gated_mlp.h"

namespace sluice::nn {

GatedMlp::GatedMlp(int64_t hidden_size, int64_t intermediate_size)
    : gate_up_(hidden_size, {{"gate_proj", intermediate_size}, {"up_proj", intermediate_size}}),
      down_(intermediate_size, {{"down_proj", hidden_size}}) {
  add_child("", gate_up_);
  add_child("", down_);
}

Branch GatedMlp::forward(const Variable& x) const {
  return down_.branch({gate_up_.forward(x), ops::Activation::kSilu});
}

double GatedMlp::flops_per_token() const {
  return 2.0 * static_cast<double>(gate_up_.in() * gate_up_.out() + down_.in() * down_.out());
}

}  // namespace sluice::nn
