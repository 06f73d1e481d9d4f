#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/sha256.h"
#include "model/weight_directory.h"

namespace sluice {
namespace {

int64_t bytes_in(const TensorStream& tensor) {
  const auto bytes = bytes_of(tensor.shape, tensor.type);
  SLUICE_CHECK(bytes.has_value(), kInternal, "tensor {} of shape {} is beyond 2^63 bits",
               printable(tensor.name), format_shape(tensor.shape));
  return *bytes;
}

std::vector<std::vector<TensorStream>> pack(std::vector<TensorStream> tensors, int64_t max_shard_bytes) {
  std::vector<std::vector<TensorStream>> shards(1);
  int64_t filled = 0;
  for (TensorStream& tensor : tensors) {
    const int64_t bytes = bytes_in(tensor);
    if (!shards.back().empty() && bytes > max_shard_bytes - filled) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

WrittenFile write_index(const std::filesystem::path& path, const std::map<std::string, std::string>& file_of,
                        int64_t total_size, bool sync) {
  Json json;
  json["metadata"]["total_size"] = total_size;
  Json& map = json["weight_map"] = Json::object();
  // Inserted at the end: the names come sorted, and assignment by key would search the whole map each time.
  for (const auto& [name, file] : file_of) map.get_ref<Json::object_t&>().emplace_back(name, file);
  const std::string text = dump_json(json) + "\n";
  OutputFile file(path, ErrorKind::kCheckpoint);
  file.write(text);
  if (sync) file.sync();
  file.close();
  return {path.filename().string(), file.size(), sha256_hex(std::as_bytes(std::span(text)))};
}

// Weights of another writing would be read in place of, or together with, the new ones.
void check_holds_no_weights(const std::filesystem::path& directory) {
  std::error_code code;
  for (std::filesystem::directory_iterator entry(directory, code), end; !code && entry != end;
       entry.increment(code)) {
    const std::string name = entry->path().filename().string();
    SLUICE_CHECK(!name.ends_with(".safetensors") && !name.ends_with(".safetensors.index.json"), kCheckpoint,
                 "{}: holds {} already; write to another directory", directory.string(), name);
  }
  SLUICE_CHECK(!code, kCheckpoint, "{}: cannot list the directory: {}", directory.string(), code.message());
}

}  // namespace

std::vector<WrittenFile> write_sharded(const std::filesystem::path& directory,
                                       std::vector<TensorStream> tensors, int64_t max_shard_bytes,
                                       const SafetensorsOptions& options) {
  SLUICE_CHECK(max_shard_bytes > 0, kUsage, "a shard of at most {} bytes holds nothing", max_shard_bytes);
  check_holds_no_weights(directory);
  int64_t total_size = 0;
  for (const TensorStream& tensor : tensors) total_size += bytes_in(tensor);
  auto shards = pack(std::move(tensors), max_shard_bytes);
  if (shards.size() == 1) {
    return {write_safetensors(directory / "model.safetensors", std::move(shards[0]), options)};
  }
  std::vector<WrittenFile> written;
  std::map<std::string, std::string> file_of;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const TensorStream& tensor : shards[i]) {
      SLUICE_CHECK(file_of.emplace(tensor.name, file).second, kInternal, "two tensors are named {}",
                   printable(tensor.name));
    }
    written.push_back(write_safetensors(directory / file, std::move(shards[i]), options));
  }
  written.push_back(
      write_index(directory / "model.safetensors.index.json", file_of, total_size, options.sync));
  return written;
}

std::vector<WrittenFile> write_sharded(const std::filesystem::path& directory,
                                       const std::vector<NamedTensor>& tensors, int64_t max_shard_bytes,
                                       const SafetensorsOptions& options) {
  std::vector<TensorStream> streams;
  for (const NamedTensor& named : tensors) streams.push_back(stream_of(named, options.floating));
  SafetensorsOptions rest = options;
  rest.floating.reset();
  return write_sharded(directory, std::move(streams), max_shard_bytes, rest);
}

}  // namespace sluice
