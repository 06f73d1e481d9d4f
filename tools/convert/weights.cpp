#include "tools/convert/weights.h"

#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/progress.h"
#include "model/weight_directory.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;

// What a model directory holds beside config and weights, and what both programs and people expect to find
// again. Trainer state and manifests describe the source's bytes, so they stay behind.
constexpr const char* kCopiedFiles[] = {
    "generation_config.json",  "tokenizer.model",   "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json",     "merges.txt",
    "chat_template.jinja",
};

struct Arguments {
  std::string source;
  std::string destination;
  std::string dtype;
  uint64_t max_shard_bytes = 5'000'000'000;
};

// Gone unless it was renamed: an interrupted conversion leaves nothing that looks like a model.
class StagingDirectory {
 public:
  explicit StagingDirectory(const fs::path& destination)
      : destination_(destination), path_(destination.string() + fmt::format(".tmp-{}", ::getpid())) {
    create_directories(path_, ErrorKind::kCheckpoint);
  }
  ~StagingDirectory() {
    std::error_code ignored;
    if (!published_) fs::remove_all(path_, ignored);
  }
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  const fs::path& path() const { return path_; }

  void publish() {
    sync_directory(path_, ErrorKind::kCheckpoint);
    std::error_code code;
    fs::rename(path_, destination_, code);
    SLUICE_CHECK(!code, kCheckpoint, "{}: cannot rename {} to it: {}", destination_.string(), path_.string(),
                 code.message());
    published_ = true;
    sync_directory(destination_.parent_path(), ErrorKind::kCheckpoint);
  }

 private:
  fs::path destination_;
  fs::path path_;
  bool published_ = false;
};

StoredType parse_weight_type(const std::string& name) {
  if (name == "bf16" || name == "bfloat16") return StoredType::kBF16;
  if (name == "f16" || name == "float16") return StoredType::kF16;
  return StoredType::kF32;
}

const char* torch_name(StoredType type) {
  return type == StoredType::kBF16 ? "bfloat16" : type == StoredType::kF16 ? "float16" : "float32";
}

// transformers 5 writes "dtype", version 4 "torch_dtype": what is there is updated.
void write_config(const fs::path& source, const fs::path& destination, std::optional<StoredType> dtype) {
  Json config = read_json_file(source, ErrorKind::kCheckpoint);
  SLUICE_CHECK(config.is_object(), kCheckpoint, "{}: {} where an object is needed", source.string(),
               config.type_name());
  if (dtype) {
    const char* name = torch_name(*dtype);
    const bool has_new = config.contains("dtype");
    if (has_new) config["dtype"] = name;
    if (!has_new || config.contains("torch_dtype")) config["torch_dtype"] = name;
  }
  write_file_atomically(destination, dump_json(config) + "\n", ErrorKind::kCheckpoint);
}

// In the order of the source's files, so that one is read after the other.
std::vector<TensorStream> streams_of(const WeightDirectory& weights, std::optional<StoredType> dtype) {
  std::vector<TensorStream> streams;
  for (const SafetensorsFile& file : weights.files()) {
    for (const StoredTensor& tensor : file.tensors()) streams.push_back(file.stream(tensor.name, dtype));
  }
  return streams;
}

// Makes each stream report what it has written; `progress` must outlive them.
void report_to(Progress& progress, std::vector<TensorStream>& streams) {
  const auto done = std::make_shared<int64_t>(0);
  for (TensorStream& stream : streams) {
    stream.stream = [inner = std::move(stream.stream), done, &progress](const ByteSink& sink) {
      inner([&](std::span<const std::byte> bytes) {
        sink(bytes);
        *done += static_cast<int64_t>(bytes.size());
        progress.update(static_cast<double>(*done) / 1e6);
      });
    };
  }
}

double megabytes_in(const std::vector<TensorStream>& streams) {
  int64_t bytes = 0;
  for (const TensorStream& stream : streams) bytes += bytes_of(stream.shape, stream.type).value();
  return static_cast<double>(bytes) / 1e6;
}

int convert_weights(const Arguments& arguments) {
  const fs::path source = arguments.source;
  // "out/" and "out" are one directory, and the temporary one stands beside it, not in it.
  fs::path destination = fs::absolute(arguments.destination).lexically_normal();
  if (!destination.has_filename()) destination = destination.parent_path();
  std::optional<StoredType> dtype;
  if (!arguments.dtype.empty()) dtype = parse_weight_type(arguments.dtype);
  std::error_code ignored;
  SLUICE_CHECK(!fs::exists(destination, ignored) || fs::is_empty(destination, ignored), kUsage,
               "{}: exists and is not empty; name a new directory", destination.string());
  SLUICE_CHECK(fs::exists(source / "config.json", ignored), kCheckpoint,
               "{}: holds no config.json, so it is no Hugging Face model directory", source.string());
  const WeightDirectory weights(source);
  StagingDirectory staging(destination);
  std::vector<std::string> written;
  {
    auto streams = streams_of(weights, dtype);
    Progress progress("converting", megabytes_in(streams), "MB");
    report_to(progress, streams);
    SafetensorsOptions options;
    options.sync = true;
    const auto limit = static_cast<int64_t>(std::min<uint64_t>(arguments.max_shard_bytes, INT64_MAX));
    for (const WrittenFile& file : write_sharded(staging.path(), std::move(streams), limit, options)) {
      written.push_back(fmt::format("{}  {}  {}", file.sha256, file.bytes, file.name));
    }
  }
  write_config(source / "config.json", staging.path() / "config.json", dtype);
  for (const char* name : kCopiedFiles) {
    if (!fs::exists(source / name, ignored)) continue;
    write_file_atomically(staging.path() / name, read_text_file(source / name, ErrorKind::kCheckpoint),
                          ErrorKind::kCheckpoint);
  }
  staging.publish();
  for (const std::string& line : written) fmt::print("{}\n", line);
  return 0;
}

}  // namespace

void add_weights(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand(
      "weights",
      "write a Hugging Face model directory again, in another dtype or other shards.\n"
      "config.json follows the dtype; tokenizer files are copied, trainer state is not. One piece of one "
      "tensor is\n"
      "in memory at a time. DST appears whole or not at all. Prints SHA-256, bytes and name of each file of "
      "weights.");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("SRC", arguments->source, "model directory, e.g. a checkpoint")->required();
  command->add_option("DST", arguments->destination, "directory to create")->required();
  command
      ->add_option("--dtype", arguments->dtype,
                   "convert floating weights to bf16, f16 or f32; without it they stay as they are")
      ->check(CLI::IsMember({"bf16", "f16", "f32", "bfloat16", "float16", "float32"}));
  command
      ->add_option("--max-shard-size", arguments->max_shard_bytes,
                   "bytes of tensors in one file, e.g. 5GB (10^9) or 5GiB (2^30); default 5GB")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber);
  command->callback([arguments, &action] { action = [arguments] { return convert_weights(*arguments); }; });
}

}  // namespace sluice::convert
