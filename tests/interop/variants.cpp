#include "variants.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/file.h"

namespace sluice::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFusedNorm = "attn.g_norm_swish_gate.weight", kPlainNorm = "attn.g_norm.weight";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

void rename_norms(std::vector<NamedTensor>& tensors) {
  for (NamedTensor& named : tensors) {
    const std::string fused = replaced(named.name, kPlainNorm, kFusedNorm);
    named.name = fused != named.name ? fused : replaced(named.name, kFusedNorm, kPlainNorm);
  }
}

// [gate; up] under the gate's name.
void merge_gate_up(std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> merged;
  for (const NamedTensor& named : tensors) {
    if (named.name.ends_with("mlp.up_proj.weight")) continue;
    merged.push_back(named);
    if (!named.name.ends_with("mlp.gate_proj.weight")) continue;
    const std::string up_name = replaced(named.name, "gate_proj", "up_proj");
    const auto up = std::find_if(tensors.begin(), tensors.end(),
                                 [&](const NamedTensor& other) { return other.name == up_name; });
    auto values = named.tensor.to_vector<float>();
    const auto more = up->tensor.to_vector<float>();
    values.insert(values.end(), more.begin(), more.end());
    merged.back().tensor =
        Tensor::from<float>({2 * named.tensor.size(0), named.tensor.size(1)}, std::move(values));
  }
  tensors = std::move(merged);
}

void write_streams_as(const std::vector<NamedTensor>& tensors, StoredType type, const fs::path& directory) {
  // Through a file, whose tensors can be streamed in any type.
  const fs::path plain = directory / "plain";
  fs::create_directories(plain);
  write_sharded(plain, tensors, int64_t{1} << 40);
  {
    const WeightDirectory source(plain);
    std::vector<TensorStream> streams;
    for (const std::string& name : source.names()) streams.push_back(source.stream(name, type));
    write_sharded(directory, std::move(streams), int64_t{1} << 40);
  }
  fs::remove_all(plain);
}

// As transformers 4.3x and flash-linear-attention 0.1 wrote it.
Json old_config(Json config) {
  for (const char* key :
       {"dtype", "attn", "attnres_block_size", "use_l2warp", "fuse_linear_cross_entropy", "fuse_swiglu",
        "feature_map", "num_kv_heads", "pad_token_id", "intermediate_size"}) {
    if (config.contains(key) &&
        (config[key].is_null() || config[key].is_boolean() || key == std::string("dtype")))
      config.erase(key);
  }
  config["torch_dtype"] = "float32";
  config["transformers_version"] = "4.38.2";
  config["share_conv_kernel"] = true;
  return config;
}

}  // namespace

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"as_written", 1e-5},     {"sharded", 1e-5},         {"bf16", 2e-2},      {"f16", 5e-3},
      {"merged_gate_up", 1e-5}, {"other_norm_name", 1e-5}, {"old_config", 1e-5}};
  return all;
}

void write_variant(const Golden& golden, const fs::path& case_folder, const std::string& variant,
                   const fs::path& directory) {
  fs::create_directories(directory);
  Json config = read_json_file(case_folder / "config.json", ErrorKind::kCheckpoint);
  std::vector<NamedTensor> tensors;
  for (const std::string& name : golden.weights.names())
    tensors.push_back({name, golden.weights.load(name, DType::kF32)});
  if (variant == "bf16" || variant == "f16") {
    config["dtype"] = variant == "bf16" ? "bfloat16" : "float16";
    write_streams_as(tensors, variant == "bf16" ? StoredType::kBF16 : StoredType::kF16, directory);
  } else {
    if (variant == "merged_gate_up") merge_gate_up(tensors);
    if (variant == "other_norm_name") {
      rename_norms(tensors);
      config["fuse_norm"] = !config["fuse_norm"].get<bool>();
    }
    if (variant == "old_config") config = old_config(std::move(config));
    write_sharded(directory, tensors, variant == "sharded" ? int64_t{40000} : int64_t{1} << 40);
  }
  write_file_atomically(directory / "config.json", dump_json(config) + "\n", ErrorKind::kCheckpoint);
}

void write_tokens(const fs::path& path, const std::vector<int32_t>& tokens) {
  const std::vector<uint16_t> narrow(tokens.begin(), tokens.end());
  write_file_atomically(path, {reinterpret_cast<const char*>(narrow.data()), narrow.size() * 2},
                        ErrorKind::kData);
}

std::vector<float> read_npy(const fs::path& path, const std::string& shape) {
  const std::string bytes = read_text_file(path, ErrorKind::kData);
  SLUICE_CHECK(bytes.size() > 10 && bytes.starts_with("\x93NUMPY\x01"), kData, "{}: no NumPy file",
               path.string());
  uint16_t description = 0;
  std::memcpy(&description, bytes.data() + 8, sizeof description);
  const std::string text = bytes.substr(10, description);
  SLUICE_CHECK(
      (10 + description) % 64 == 0 && text.find("'<f4'") != text.npos && text.find(shape) != text.npos, kData,
      "{}: {} where f32 {} is expected", path.string(), text, shape);
  std::vector<float> values((bytes.size() - 10 - description) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + 10 + description, values.size() * sizeof(float));
  return values;
}

}  // namespace sluice::test
