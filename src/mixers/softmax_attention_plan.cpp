#include "mixers/softmax_attention_plan.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "config/object_reader.h"

namespace sluice {
namespace {

class SoftmaxAttentionPlan final : public MixerPlan {
 public:
  std::unique_ptr<nn::Mixer> make(int64_t) const override {
    return std::make_unique<SoftmaxAttention>(sizes);
  }

  void write(Json& config) const override {
    const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
    config["num_heads"] = sizes.num_heads;
    config["num_kv_heads"] = or_null(num_kv_heads);
    config["qk_norm"] = sizes.qk_norm;
    config["qkv_bias"] = sizes.qkv_bias;
    config["rope_theta"] = sizes.rope_theta;
    config["window_size"] = or_null(sizes.window_size);
  }

  SoftmaxAttentionSizes sizes;
  std::optional<int64_t> num_kv_heads;
};

}  // namespace

SoftmaxAttentionSizes read_softmax_attention_sizes(ObjectReader& config, const MixerContext& context,
                                                   int64_t default_heads) {
  SoftmaxAttentionSizes s;
  s.hidden_size = context.hidden_size;
  constexpr int64_t kMost = 1 << 20;
  s.num_heads = default_heads > 0 ? config.integer("num_heads", default_heads, 1, kMost)
                                  : config.required_integer("num_heads", 1, kMost);
  s.num_kv_heads = config.optional_integer("num_kv_heads", 1, kMost).value_or(s.num_heads);
  s.qkv_bias = config.boolean("qkv_bias", false);
  s.qk_norm = config.boolean("qk_norm", false);
  s.window_size = config.optional_integer("window_size", 1);
  s.rope_theta = config.optional_number("rope_theta", 1.0, 1e12).value_or(10000.0);
  if (s.hidden_size % s.num_heads != 0) {
    config.problem("num_heads", fmt::format("hidden_size {} is not divisible by num_heads {}", s.hidden_size,
                                            s.num_heads));
  } else if (s.head_dim() % 2 != 0) {
    config.problem("num_heads",
                   fmt::format("rotary positions need an even head size, hidden_size {} over {} heads "
                               "gives {}",
                               s.hidden_size, s.num_heads, s.head_dim()));
  }
  if (s.num_heads % s.num_kv_heads != 0) {
    config.problem("num_kv_heads", fmt::format("num_heads {} is not divisible by num_kv_heads {}",
                                               s.num_heads, s.num_kv_heads));
  }
  return s;
}

std::unique_ptr<MixerPlan> read_softmax_attention_plan(ObjectReader& config, const MixerContext& context,
                                                       Problems&) {
  auto plan = std::make_unique<SoftmaxAttentionPlan>();
  plan->sizes = read_softmax_attention_sizes(config, context, 32);
  if (plan->sizes.num_kv_heads != plan->sizes.num_heads || config.has("num_kv_heads")) {
    plan->num_kv_heads = config.optional_integer("num_kv_heads");
  }
  return plan;
}

}  // namespace sluice
