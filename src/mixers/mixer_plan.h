// What a family of models puts into each layer, read once from its part of a Hugging Face config.json.
#pragma once

#include <memory>

#include "config/json.h"
#include "nn/mixer.h"

namespace sluice {

// What the model knows and its mixers need.
struct MixerContext {
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  double norm_eps = 1e-6;
  bool elementwise_affine = true;
};

class MixerPlan {
 public:
  virtual ~MixerPlan() = default;
  // The mixer of layer `layer`, counted from 0.
  virtual std::unique_ptr<nn::Mixer> make(int64_t layer) const = 0;
  // Writes the family's own keys, defaults included.
  virtual void write(Json& config) const = 0;
};

}  // namespace sluice
