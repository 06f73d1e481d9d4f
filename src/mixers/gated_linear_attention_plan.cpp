#include "mixers/gated_linear_attention_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/object_reader.h"
#include "mixers/gated_linear_attention.h"
#include "mixers/softmax_attention_plan.h"

namespace sluice {
namespace {

// The layers of a hybrid model that hold softmax attention of one kind.
struct HybridLayers {
  std::vector<int64_t> layers;
  SoftmaxAttentionSizes sizes;
};

class GatedLinearAttentionPlan final : public MixerPlan {
 public:
  std::unique_ptr<nn::Mixer> make(int64_t layer) const override {
    for (const HybridLayers& kind : hybrid) {
      if (std::find(kind.layers.begin(), kind.layers.end(), layer) != kind.layers.end()) {
        return std::make_unique<SoftmaxAttention>(kind.sizes);
      }
    }
    return std::make_unique<GatedLinearAttention>(sizes);
  }

  void write(Json& config) const override {
    const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
    config["attn"] = attn;
    config["attn_mode"] = attn_mode;
    config["clamp_min"] = or_null(sizes.clamp_min);
    config["conv_size"] = sizes.conv_size;
    config["expand_k"] = expand_k;
    config["expand_v"] = expand_v;
    config["feature_map"] = or_null(feature_map);
    config["num_heads"] = sizes.num_heads;
    config["num_kv_heads"] = or_null(num_kv_heads);
    config["use_gk"] = true;
    config["use_gv"] = false;
    config["use_output_gate"] = sizes.use_output_gate;
    config["use_short_conv"] = sizes.use_short_conv;
  }

  GatedLinearAttentionSizes sizes;
  std::vector<HybridLayers> hybrid;
  // As the file has them, to be written back.
  double expand_k = 0.5;
  double expand_v = 1.0;
  std::string attn_mode = "chunk";
  std::optional<int64_t> num_kv_heads;
  std::optional<std::string> feature_map;
  Json attn;
};

HybridLayers read_hybrid_layers(ObjectReader& reader, const MixerContext& context) {
  HybridLayers kind;
  const Json* layers = reader.raw("layers");
  if (layers == nullptr || !layers->is_array()) {
    reader.problem("layers", "expected a list of layer numbers");
  } else {
    for (const Json& entry : *layers) {
      if (!entry.is_number_integer() || entry.get<int64_t>() < 0 ||
          entry.get<int64_t>() >= context.num_hidden_layers) {
        reader.problem("layers", fmt::format("expected integers from 0 to {}, got {}",
                                             context.num_hidden_layers - 1, describe(entry)));
        continue;
      }
      kind.layers.push_back(entry.get<int64_t>());
    }
  }
  kind.sizes = read_softmax_attention_sizes(reader, context, 0);
  reader.finish();
  return kind;
}

void read_hybrid(ObjectReader& config, const MixerContext& context, Problems& problems,
                 GatedLinearAttentionPlan& plan) {
  const Json* attn = config.raw("attn");
  if (attn == nullptr || attn->is_null()) return;
  plan.attn = *attn;
  const auto read_one = [&](const Json& value, const std::string& path) {
    ObjectReader reader(value, path, problems);
    plan.hybrid.push_back(read_hybrid_layers(reader, context));
  };
  if (!attn->is_array()) return read_one(*attn, config.path_of("attn"));
  for (size_t i = 0; i < attn->size(); ++i) {
    read_one((*attn)[i], fmt::format("{}.{}", config.path_of("attn"), i));
  }
}

void require_divisible(ObjectReader& config, const char* key, const char* what, int64_t value,
                       int64_t divisor) {
  if (divisor > 0 && value % divisor != 0) {
    config.problem(key, fmt::format("{} {} is not divisible by {}", what, value, divisor));
  }
}

}  // namespace

std::unique_ptr<MixerPlan> read_gated_linear_attention_plan(ObjectReader& config, const MixerContext& context,
                                                            Problems& problems) {
  auto plan = std::make_unique<GatedLinearAttentionPlan>();
  GatedLinearAttentionSizes& s = plan->sizes;
  s.hidden_size = context.hidden_size;
  s.norm_eps = context.norm_eps;
  s.elementwise_affine = context.elementwise_affine;
  plan->expand_k = config.number("expand_k", 0.5, 1e-6, 1024);
  plan->expand_v = config.number("expand_v", 1.0, 1e-6, 1024);
  s.num_heads = config.integer("num_heads", 4, 1, 1 << 20);
  plan->num_kv_heads = config.optional_integer("num_kv_heads", 1, 1 << 20);
  s.num_kv_heads = plan->num_kv_heads.value_or(s.num_heads);
  s.key_dim = static_cast<int64_t>(static_cast<double>(context.hidden_size) * plan->expand_k);
  s.value_dim = static_cast<int64_t>(static_cast<double>(context.hidden_size) * plan->expand_v);
  require_divisible(config, "num_heads", "the key width hidden_size * expand_k =", s.key_dim, s.num_heads);
  require_divisible(config, "num_heads", "the value width hidden_size * expand_v =", s.value_dim,
                    s.num_heads);
  require_divisible(config, "num_kv_heads", "num_heads", s.num_heads, s.num_kv_heads);
  if (s.key_dim < s.num_heads || s.value_dim < s.num_heads) {
    config.problem("expand_k",
                   fmt::format("{} heads share {} key and {} value channels; each head needs at least one",
                               s.num_heads, s.key_dim, s.value_dim));
  }
  s.use_short_conv = config.boolean("use_short_conv", false);
  s.conv_size = config.integer("conv_size", 4, 2, 64);
  s.use_output_gate = config.boolean("use_output_gate", true);
  s.fused_norm_name =
      config.boolean("fuse_norm", true) && s.use_output_gate && config.text("hidden_act", "swish") == "swish";
  s.clamp_min = config.optional_number("clamp_min", -1e30, 0.0);
  plan->feature_map = config.optional_text("feature_map");
  if (plan->feature_map) {
    try {
      s.feature_map = ops::parse_activation(*plan->feature_map);
    } catch (const Error& error) {
      config.problem("feature_map", error.what());
    }
  }
  read_hybrid(config, context, problems, *plan);
  plan->attn_mode =  // all compute the same
      config.choice("attn_mode", plan->attn_mode, {"chunk", "fused_chunk", "fused_recurrent"});
  if (!config.boolean("use_gk", true))
    config.problem("use_gk", "false is not supported: the gate is what GLA is");
  if (config.boolean("use_gv", false))
    config.problem("use_gv", "true is not supported: values have no gate of their own");
  return plan;
}

}  // namespace sluice
