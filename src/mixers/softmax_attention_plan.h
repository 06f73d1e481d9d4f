// model_type "transformer": softmax attention in every layer; and the hybrid layers of other families.
#pragma once

#include "mixers/mixer_plan.h"
#include "mixers/softmax_attention.h"

namespace sluice {

class ObjectReader;
class Problems;

// Own keys, with defaults: num_heads 32, num_kv_heads null, qkv_bias false, qk_norm false, window_size null,
// rope_theta 10000.
std::unique_ptr<MixerPlan> read_softmax_attention_plan(ObjectReader& config, const MixerContext& context,
                                                       Problems& problems);

// The attention keys out of `config`; `default_heads` 0 means that num_heads is required there.
SoftmaxAttentionSizes read_softmax_attention_sizes(ObjectReader& config, const MixerContext& context,
                                                   int64_t default_heads);

}  // namespace sluice
