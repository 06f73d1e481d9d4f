// A model's weights from and to Hugging Face names.
#pragma once

#include <vector>

#include "model/language_model.h"
#include "model/named_tensor.h"

namespace sluice {

class WeightDirectory;

// Fills every bound parameter from the directory, converting to the parameter's dtype. Reads both layouts of
// the feed-forward layer and both names of the gated norm. Error(kCheckpoint) lists all tensors that are
// missing, superfluous or of another shape, with both shapes.
void load_weights(const LanguageModel& model, const WeightDirectory& directory);

// Every checkpoint tensor of the model as a view of its parameter, named and shaped as flash-linear-attention
// does, in model order. `whole` picks what is named: the value, a gradient or a moment of each parameter.
template <class Whole>
std::vector<NamedTensor> named_parts(const LanguageModel& model, Whole&& whole) {
  std::vector<NamedTensor> named;
  for (const nn::Parameter* parameter : model.parameters()) {
    const Tensor tensor = whole(*parameter);
    for (const nn::CheckpointPart& part : parameter->parts()) {
      named.push_back({part.name, parameter->part_of(tensor, part)});
    }
  }
  return named;
}

std::vector<NamedTensor> named_weights(const LanguageModel& model);

}  // namespace sluice
