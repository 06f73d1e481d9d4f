// The weights of a Hugging Face model directory: one model.safetensors, or shards and their index.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors.h"

namespace sluice {

class WeightDirectory {
 public:
  // `path` is such a directory or a safetensors file. All headers are read and checked, and so is the index
  // against the shards: each file is there, and each name is in the file the index gives and in no other.
  // Error(kCheckpoint).
  explicit WeightDirectory(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  std::vector<std::string> names() const;  // sorted
  bool has(std::string_view name) const { return file_of_.contains(name); }
  const StoredTensor& find(std::string_view name) const { return file_of(name).find(name); }
  const std::vector<int64_t>& shape(std::string_view name) const { return find(name).shape; }
  StoredType dtype(std::string_view name) const { return find(name).type; }

  // As SafetensorsFile's.
  Tensor load(std::string_view name, DType wanted) const { return file_of(name).load(name, wanted); }
  void load_into(std::string_view name, const Tensor& destination) const {
    file_of(name).load_into(name, destination);
  }
  TensorStream stream(std::string_view name, std::optional<StoredType> floating) const {
    return file_of(name).stream(name, floating);
  }

 private:
  void open_shards(const std::filesystem::path& index);
  void add_file(const std::filesystem::path& path);
  const SafetensorsFile& file_of(std::string_view name) const;

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t, std::less<>> file_of_;
};

// Writes weights into a directory that exists and holds none: model.safetensors where all data fit into
// `max_shard_bytes`, else model-00001-of-0000n.safetensors and model.safetensors.index.json. Tensors are
// packed in the order given; one that is larger than the limit gets a shard of its own. Returns what was
// written, the index included. Error(kCheckpoint).
std::vector<WrittenFile> write_sharded(const std::filesystem::path& directory,
                                       const std::vector<NamedTensor>& tensors, int64_t max_shard_bytes,
                                       const SafetensorsOptions& options = {});
std::vector<WrittenFile> write_sharded(const std::filesystem::path& directory,
                                       std::vector<TensorStream> tensors, int64_t max_shard_bytes,
                                       const SafetensorsOptions& options = {});

}  // namespace sluice
