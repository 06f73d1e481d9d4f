#include "tools/convert/inspect.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "config/json.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/token_formats.h"
#include "data/tokenizer.h"
#include "model/language_model.h"
#include "model/weight_directory.h"
#include "train/checkpoint_manifest.h"

namespace sluice::convert {
namespace {

constexpr size_t kNameBytes = 200;  // of a tensor's name on the screen
constexpr int64_t kTokensShown = 8;

bool holds_weights(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path.extension() == ".safetensors";
  return std::filesystem::exists(path / "model.safetensors") ||
         std::filesystem::exists(path / "model.safetensors.index.json");
}

void print_config(const std::filesystem::path& path) {
  const ModelConfig config = read_model_config_file(path);
  fmt::print("{}: {} ({}), {} parameters\n", path.string(), config.model_type, config.architecture,
             LanguageModel(config).parameter_count());
  fmt::print("  {} layers of width {}, feed-forward {}, vocabulary {}{}\n", config.num_hidden_layers,
             config.hidden_size, config.mlp_width(), config.vocab_size,
             config.tie_word_embeddings ? ", output tied to the embeddings" : "");
}

void print_manifest(const std::filesystem::path& directory) {
  const Manifest manifest = read_manifest(directory);
  fmt::print("{}: checkpoint after step {}, {} tokens{}\n", (directory / kManifestName).string(),
             manifest.step, manifest.tokens,
             manifest.poisoned ? "; its weights are not finite, it is never resumed from" : "");
  for (const ManifestFile& file : manifest.files)
    fmt::print("  {}  {:>16}  {}\n", file.sha256, file.bytes, file.name);
}

void print_tokenizer(const std::filesystem::path& path) {
  const Tokenizer tokenizer(path);
  fmt::print("{}: sentencepiece model of {} pieces, sha256 {}\n", path.string(), tokenizer.vocabulary_size(),
             tokenizer.sha256());
  for (const auto& [name, id] : {std::pair("bos", tokenizer.bos_id()), std::pair("eos", tokenizer.eos_id()),
                                 std::pair("unk", tokenizer.unk_id())}) {
    if (id >= 0) fmt::print("  {} {} = {}\n", name, id, printable(tokenizer.piece(id)));
  }
}

void print_weights(const std::filesystem::path& path) {
  const WeightDirectory weights(path);
  size_t width = 4;
  for (const std::string& name : weights.names()) width = std::max(width, printable(name, kNameBytes).size());
  int64_t tensors = 0, parameters = 0, bytes = 0;
  std::map<std::string, int64_t> parameters_of;
  for (const SafetensorsFile& file : weights.files()) {
    fmt::print("{}: {}\n", file.path().string(), format_bytes(static_cast<double>(file.bytes())));
    for (const auto& [key, value] : file.metadata()) {
      fmt::print("  metadata {} = {}\n", printable(key), printable(value));
    }
    fmt::print("  {:<{}}  {:<7} {:>14} {:>16}  shape\n", "name", width, "dtype", "elements", "bytes");
    for (const StoredTensor& tensor : file.tensors()) {
      fmt::print("  {:<{}}  {:<7} {:>14} {:>16}  {}\n", printable(tensor.name, kNameBytes), width,
                 name_of(tensor.type), tensor.numel(), tensor.bytes(), format_shape(tensor.shape));
      ++tensors;
      parameters += tensor.numel();
      parameters_of[name_of(tensor.type)] += tensor.numel();
      bytes += tensor.bytes();
    }
  }
  std::string types;
  for (const auto& [type, count] : parameters_of) {
    types +=
        fmt::format("{}{} {}", types.empty() ? "" : ", ", format_count(static_cast<double>(count)), type);
  }
  fmt::print("{} tensors, {} parameters ({}), {} bytes in {} {}\n", tensors, parameters,
             types.empty() ? "none" : types, bytes, weights.files().size(),
             weights.files().size() == 1 ? "file" : "files");
}

void print_tokens(const std::string& source, int64_t at) {
  int64_t files = 0, tokens = 0, bytes = 0;
  for (const auto& path : expand_sources(source)) {
    const TokenFile file = open_token_file(path);
    fmt::print("{}: {}, {} tokens, {}", path.string(), file.format(), file.size(),
               format_bytes(static_cast<double>(file.file_bytes())));
    if (!file.document_starts().empty()) fmt::print(", {} documents", file.document_starts().size());
    const int64_t first = at < 0 ? file.size() + at : at;
    SLUICE_CHECK(first >= 0 && first < file.size(), kUsage, "--at {}: {} has {} tokens", at, path.string(),
                 file.size());
    std::vector<int32_t> shown(static_cast<size_t>(std::min<int64_t>(file.size() - first, kTokensShown)));
    file.read(first, shown);
    fmt::print("\n  {} {}\n", at == 0 ? "starts with" : fmt::format("from {}:", first),
               fmt::join(shown, " "));
    ++files;
    tokens += file.size();
    bytes += file.file_bytes();
  }
  fmt::print("{} tokens, {} bytes in {} {}\n", tokens, bytes, files, files == 1 ? "file" : "files");
}

// A directory of a model: whatever of it is there. Its weights are worth showing beside a damaged config too.
void print_model_directory(const std::filesystem::path& path) {
  const auto print_if_there = [&](const char* name, auto&& print) {
    if (!std::filesystem::exists(path / name)) return;
    try {
      print();
    } catch (const Error& error) {
      log::warning("{}", error.what());
    }
  };
  print_if_there(kManifestName, [&] { print_manifest(path); });
  print_if_there("config.json", [&] { print_config(path / "config.json"); });
  print_if_there("tokenizer.model", [&] { print_tokenizer(path / "tokenizer.model"); });
  print_weights(path);
}

int inspect(const std::string& source, int64_t at) {
  const std::filesystem::path path = source;
  if (holds_weights(path)) {
    std::filesystem::is_directory(path) ? print_model_directory(path) : print_weights(path);
  } else if (path.extension() == ".model") {
    print_tokenizer(path);
  } else if (path.filename() == kManifestName) {
    print_manifest(path.has_parent_path() ? path.parent_path() : ".");
  } else if (path.extension() == ".json") {
    print_config(path);
  } else {
    print_tokens(source, at);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand("inspect", "print what is in any file that the programs read");
  const auto path = std::make_shared<std::string>();
  const auto at = std::make_shared<int64_t>(0);
  command
      ->add_option(
          "PATH", *path,
          "a safetensors file; a Hugging Face or checkpoint directory; its config.json, manifest.json\n"
          "or tokenizer.model; a token file of llm.c, Megatron or nanoGPT; a directory or glob pattern\n"
          "of those. Headers are checked whole")
      ->required();
  command->add_option("--at", *at, "show the tokens from this one on; negative: counted from the end")
      ->capture_default_str();
  command->callback([path, at, &action] { action = [path, at] { return inspect(*path, *at); }; });
}

}  // namespace sluice::convert
