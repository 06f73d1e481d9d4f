#include "mixers/registry.h"

#include "mixers/gated_linear_attention_plan.h"
#include "mixers/softmax_attention_plan.h"

namespace sluice {

const std::vector<MixerFamily>& mixer_families() {
  static const std::vector<MixerFamily> families = {
      {"gla", "GLAForCausalLM", read_gated_linear_attention_plan},
      {"transformer", "TransformerForCausalLM", read_softmax_attention_plan},
  };
  return families;
}

const MixerFamily* find_mixer_family(std::string_view model_type) {
  for (const MixerFamily& family : mixer_families()) {
    if (model_type == family.model_type) return &family;
  }
  return nullptr;
}

}  // namespace sluice
