#include "model/model_config.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "config/object_reader.h"
#include "mixers/registry.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

// Keys that describe the file or serve other programs.
constexpr const char* kWithoutEffect[] = {"architectures",        "torch_dtype",         "dtype",
                                          "transformers_version", "_name_or_path",       "return_dict",
                                          "output_attentions",    "output_hidden_states"};

// The version whose file this is: it says "dtype" where version 4 said "torch_dtype", and readers go by it.
constexpr const char* kTransformersVersion = "5.17.0";

std::string known_model_types() {
  std::string names;
  for (const MixerFamily& family : mixer_families())
    names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  return names;
}

void check_token_id(ObjectReader& reader, const char* key, const std::optional<int64_t>& id,
                    int64_t vocabulary) {
  if (id && *id >= vocabulary) {
    reader.problem(key, fmt::format("{} is outside the vocabulary of {} tokens", *id, vocabulary));
  }
}

void read_shared_fields(ObjectReader& reader, ModelConfig& config) {
  config.vocab_size = reader.integer("vocab_size", config.vocab_size, 1, kMostTokens);
  config.hidden_size = reader.integer("hidden_size", config.hidden_size, 1, 1 << 20);
  config.num_hidden_layers = reader.integer("num_hidden_layers", config.num_hidden_layers, 1, 1 << 16);
  config.hidden_ratio = reader.optional_integer("hidden_ratio", 1, 1024).value_or(config.hidden_ratio);
  config.intermediate_size = reader.optional_integer("intermediate_size", 1, 1 << 24);
  config.norm_eps = reader.number("norm_eps", config.norm_eps, 1e-30, 1.0);
  config.elementwise_affine = reader.optional_boolean("elementwise_affine").value_or(true);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  config.initializer_range = reader.number("initializer_range", config.initializer_range, 0.0, 10.0);
  config.max_position_embeddings =
      reader.optional_integer("max_position_embeddings", 1).value_or(config.max_position_embeddings);
  config.pad_token_id = reader.optional_integer("pad_token_id", 0);
  const auto bos = reader.optional_integer("bos_token_id", 0),
             eos = reader.optional_integer("eos_token_id", 0);
  config.bos_token_id = reader.has("bos_token_id") ? bos : 1;
  config.eos_token_id = reader.has("eos_token_id") ? eos : 2;
  config.hidden_act = reader.text("hidden_act", config.hidden_act);
  config.use_cache = reader.boolean("use_cache", config.use_cache);
  config.fuse_norm = reader.boolean("fuse_norm", config.fuse_norm);
  config.fuse_swiglu = reader.boolean("fuse_swiglu", config.fuse_swiglu);
  config.fuse_cross_entropy = reader.boolean("fuse_cross_entropy", config.fuse_cross_entropy);
  config.fuse_linear_cross_entropy =
      reader.boolean("fuse_linear_cross_entropy", config.fuse_linear_cross_entropy);
  check_token_id(reader, "bos_token_id", config.bos_token_id, config.vocab_size);
  check_token_id(reader, "eos_token_id", config.eos_token_id, config.vocab_size);
  check_token_id(reader, "pad_token_id", config.pad_token_id, config.vocab_size);
}

// Valid in flash-linear-attention, not here: refused by name rather than computed wrongly.
void refuse_unsupported(ObjectReader& reader, const ModelConfig& config) {
  if (config.hidden_act != "swish" && config.hidden_act != "silu") {
    reader.problem("hidden_act",
                   fmt::format("\"{}\" is not supported; the gated feed-forward layer is SwiGLU "
                               "(\"swish\")",
                               config.hidden_act));
  }
  if (reader.optional_boolean("use_l2warp").value_or(false)) {
    reader.problem("use_l2warp", "true is not supported: the loss has no penalty on large logits");
  }
  if (reader.optional_integer("attnres_block_size")) {
    reader.problem("attnres_block_size",
                   "is not supported: there is no attention over earlier layers' outputs");
  }
}

}  // namespace

int64_t ModelConfig::mlp_width() const {
  if (intermediate_size) return *intermediate_size;
  const int64_t width = hidden_size * hidden_ratio * 2 / 3;
  return 256 * ((width + 255) / 256);
}

ModelConfig read_model_config(const Json& json, const std::string& path, UnknownKeys unknown,
                              Problems& problems) {
  ModelConfig config;
  ObjectReader reader(json, path, problems);
  const size_t problems_before = problems.size();
  config.model_type = reader.required_text("model_type");
  const bool has_model_type = problems.size() == problems_before;
  read_shared_fields(reader, config);
  refuse_unsupported(reader, config);
  for (const char* key : kWithoutEffect) reader.ignore(key);
  const MixerFamily* family = find_mixer_family(config.model_type);
  if (family == nullptr) {
    if (has_model_type) {
      reader.problem("model_type", fmt::format("\"{}\" is not known; known are: {}", config.model_type,
                                               known_model_types()));
    }
    return config;  // which of the other keys are valid cannot be told
  }
  config.architecture = family->architecture;
  const MixerContext context{config.hidden_size, config.num_hidden_layers, config.norm_eps,
                             config.elementwise_affine};
  config.mixers = family->read(reader, context, problems);
  if (unknown == UnknownKeys::kRefuse) reader.finish();
  return config;
}

ModelConfig read_model_config_file(const std::filesystem::path& path) {
  const Json json = read_json_file(path, ErrorKind::kCheckpoint);
  Problems problems;
  ModelConfig config = read_model_config(json, "", UnknownKeys::kIgnore, problems);
  problems.throw_if_any(path.string(), ErrorKind::kCheckpoint);
  return config;
}

Json to_hugging_face_json(const ModelConfig& config, const std::string& dtype) {
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  Json json = Json::object();
  json["architectures"] = Json::array({config.architecture});
  json["attnres_block_size"] = nullptr;
  json["bos_token_id"] = or_null(config.bos_token_id);
  json["dtype"] = dtype;
  json["elementwise_affine"] = config.elementwise_affine;
  json["eos_token_id"] = or_null(config.eos_token_id);
  json["fuse_cross_entropy"] = config.fuse_cross_entropy;
  json["fuse_linear_cross_entropy"] = config.fuse_linear_cross_entropy;
  json["fuse_norm"] = config.fuse_norm;
  json["fuse_swiglu"] = config.fuse_swiglu;
  json["hidden_act"] = config.hidden_act;
  json["hidden_ratio"] = config.hidden_ratio;
  json["hidden_size"] = config.hidden_size;
  json["initializer_range"] = config.initializer_range;
  json["intermediate_size"] = or_null(config.intermediate_size);
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["model_type"] = config.model_type;
  json["norm_eps"] = config.norm_eps;
  json["num_hidden_layers"] = config.num_hidden_layers;
  json["pad_token_id"] = or_null(config.pad_token_id);
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  json["transformers_version"] = kTransformersVersion;
  json["use_cache"] = config.use_cache;
  json["use_l2warp"] = false;
  json["vocab_size"] = config.vocab_size;
  config.mixers->write(json);
  return Json(nlohmann::json(json));  // sorted, at every level
}

}  // namespace sluice
