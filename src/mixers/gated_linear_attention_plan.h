// model_type "gla": gated linear attention, and softmax attention in the layers that `attn` lists.
#pragma once

#include "mixers/mixer_plan.h"

namespace sluice {

class ObjectReader;
class Problems;

// Own keys, with defaults: expand_k 0.5, expand_v 1, num_heads 4, num_kv_heads null, feature_map null,
// use_short_conv false, conv_size 4, use_output_gate true, clamp_min null, attn null, fuse_norm true.
// attn_mode, use_gk and use_gv are accepted and change nothing.
std::unique_ptr<MixerPlan> read_gated_linear_attention_plan(ObjectReader& config, const MixerContext& context,
                                                            Problems& problems);

}  // namespace sluice
