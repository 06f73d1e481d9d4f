#include "tools/convert/inspect.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "config/json.h"
#include "core/progress.h"
#include "data/token_formats.h"
#include "model/weight_directory.h"

namespace sluice::convert {
namespace {

constexpr size_t kNameBytes = 200;  // of a tensor's name on the screen

bool holds_weights(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path.extension() == ".safetensors";
  return std::filesystem::exists(path / "model.safetensors") ||
         std::filesystem::exists(path / "model.safetensors.index.json");
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

void print_tokens(const std::string& source) {
  int64_t files = 0, tokens = 0, bytes = 0;
  for (const auto& path : expand_sources(source)) {
    const TokenFile file = open_token_file(path);
    std::vector<int32_t> first(static_cast<size_t>(std::min<int64_t>(file.size(), 8)));
    file.read(0, first);
    fmt::print("{}: {}, {} tokens, {}", path.string(), file.format(), file.size(),
               format_bytes(static_cast<double>(file.file_bytes())));
    if (!file.document_starts().empty()) fmt::print(", {} documents", file.document_starts().size());
    fmt::print("\n  starts with {}\n", fmt::join(first, " "));
    ++files;
    tokens += file.size();
    bytes += file.file_bytes();
  }
  fmt::print("{} tokens, {} bytes in {} {}\n", tokens, bytes, files, files == 1 ? "file" : "files");
}

int inspect(const std::string& path) {
  if (holds_weights(path)) {
    print_weights(path);
  } else {
    print_tokens(path);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand("inspect", "print what is in a file of weights or tokens");
  const auto path = std::make_shared<std::string>();
  command
      ->add_option("PATH", *path,
                   "a safetensors file; a Hugging Face or checkpoint directory; a token shard of llm.c, "
                   "Megatron or nanoGPT; a directory or glob pattern of shards. Headers are checked whole")
      ->required();
  command->callback([path, &action] { action = [path] { return inspect(*path); }; });
}

}  // namespace sluice::convert
