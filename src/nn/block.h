// One layer: h += mixer(norm(h)); h += mlp(norm(h)), with each addition part of the product in front
// of it.
#pragma once

#include "nn/gated_mlp.h"
#include "nn/mixer.h"
#include "nn/rms_norm.h"

namespace sluice::nn {

struct BlockSizes {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  double norm_eps = 1e-6;
  bool elementwise_affine = true;
};

class Block : public Module {
 public:
  Block(const BlockSizes& sizes, std::unique_ptr<Mixer> mixer);

  // `compute`: what the layer computes in; the stream may be wider.
  ResidualStream forward(const ResidualStream& stream, DType compute, const ops::SequenceLayout& layout,
                         MixerState* state) const;
  const Mixer& mixer() const { return *mixer_; }
  double flops_per_token(int64_t length) const {
    return mixer_->flops_per_token(length) + mlp_.flops_per_token();
  }

 private:
  RmsNorm mixer_norm_;
  std::unique_ptr<Mixer> mixer_;
  RmsNorm mlp_norm_;
  GatedMlp mlp_;
};

}  // namespace sluice::nn
