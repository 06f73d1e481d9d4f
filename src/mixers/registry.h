// The token mixers a model can be made of, by the model_type of their config.json. The one list to extend.
#pragma once

#include <string_view>
#include <vector>

#include "mixers/mixer_plan.h"

namespace sluice {

class ObjectReader;
class Problems;

struct MixerFamily {
  const char* model_type;    // "gla"
  const char* architecture;  // "GLAForCausalLM": the class that opens such a checkpoint in transformers
  // Reads the family's own keys; what is wrong goes to `problems`.
  std::unique_ptr<MixerPlan> (*read)(ObjectReader& config, const MixerContext& context, Problems& problems);
};

const std::vector<MixerFamily>& mixer_families();
// nullptr when there is none of that name.
const MixerFamily* find_mixer_family(std::string_view model_type);

}  // namespace sluice
