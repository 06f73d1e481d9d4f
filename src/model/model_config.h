// A model as its Hugging Face config.json describes it: `model_type`, the fields every family shares, and the
// family's own fields inside the mixer plan.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "config/json.h"
#include "config/problems.h"
#include "mixers/mixer_plan.h"

namespace sluice {

struct ModelConfig {
  std::string model_type;    // "gla", "transformer", ...
  std::string architecture;  // "GLAForCausalLM", ...
  int64_t vocab_size = 32000;
  int64_t hidden_size = 2048;
  int64_t num_hidden_layers = 24;
  int64_t hidden_ratio = 4;
  std::optional<int64_t> intermediate_size;  // null: derived from hidden_ratio
  double norm_eps = 1e-6;
  bool elementwise_affine = true;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  int64_t max_position_embeddings = 2048;  // carried along; no computation depends on it
  std::optional<int64_t> pad_token_id;
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> eos_token_id;
  // Change nothing here; carried along for the programs that read them.
  std::string hidden_act = "swish";
  bool use_cache = true;
  bool fuse_norm = true;
  bool fuse_swiglu = true;
  bool fuse_cross_entropy = true;
  bool fuse_linear_cross_entropy = false;
  std::shared_ptr<const MixerPlan> mixers;

  // intermediate_size, or 256 * ceil(floor(hidden_size * hidden_ratio * 2 / 3) / 256).
  int64_t mlp_width() const;
};

enum class UnknownKeys { kRefuse, kIgnore };

// Reads config.json's content. Everything wrong with it is added to `problems` under `path`, e.g. "model";
// the result is usable only when there are none. kIgnore is for directories that other programs wrote.
ModelConfig read_model_config(const Json& json, const std::string& path, UnknownKeys unknown,
                              Problems& problems);

// The config.json of a Hugging Face directory; Error(kCheckpoint) lists what is wrong with it.
ModelConfig read_model_config_file(const std::filesystem::path& path);

// The config.json flash-linear-attention 0.5 writes for the model through transformers 5, key for key and in
// its order, with `dtype` ("float32") as its weights' type.
Json to_hugging_face_json(const ModelConfig& config, const std::string& dtype);

}  // namespace sluice
