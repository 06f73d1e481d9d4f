#include "model/weight_directory.h"

#include <nlohmann/json.hpp>
#include <set>

#include "config/json.h"
#include "core/log.h"

namespace sluice {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

struct Index {
  std::map<std::string, std::string> file_of;  // tensor name to file name
  std::set<std::string> files;
  int64_t total_size = -1;  // -1: not said
};

// A shard lies beside its index; anything that could name another place is refused.
void check_file_name(const std::string& file, const std::string& tensor, const std::string& index) {
  const bool plain = !file.empty() && file != "." && file != ".." &&
                     file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  SLUICE_CHECK(plain, kCheckpoint, "{}: weight_map.{}: {} is no plain file name", index, printable(tensor),
               printable(file));
}

Index read_index(const std::filesystem::path& path) {
  const std::string origin = path.string();
  const Json json = read_json_file(path, ErrorKind::kCheckpoint);
  SLUICE_CHECK(json.is_object(), kCheckpoint, "{}: {} where an object is needed", origin, json.type_name());
  const auto map = json.find("weight_map");
  SLUICE_CHECK(map != json.end() && map->is_object(), kCheckpoint,
               "{}: weight_map, an object from tensor names to file names, is missing", origin);
  Index index;
  for (const auto& [name, value] : map->items()) {
    SLUICE_CHECK(value.is_string(), kCheckpoint, "{}: weight_map.{}: {} where a file name is needed", origin,
                 printable(name), value.type_name());
    const auto& file = value.get_ref<const std::string&>();
    check_file_name(file, name, origin);
    index.file_of.emplace(name, file);
    index.files.insert(file);
  }
  SLUICE_CHECK(!index.files.empty(), kCheckpoint, "{}: weight_map is empty", origin);
  if (const auto metadata = json.find("metadata"); metadata != json.end() && metadata->is_object()) {
    const auto total = metadata->find("total_size");
    if (total != metadata->end() && total->is_number_integer()) index.total_size = total->get<int64_t>();
  }
  return index;
}

}  // namespace

WeightDirectory::WeightDirectory(const std::filesystem::path& path) : path_(path) {
  std::error_code ignored;
  SLUICE_CHECK(std::filesystem::exists(path, ignored), kCheckpoint, "{}: there is no such file or directory",
               path.string());
  if (!std::filesystem::is_directory(path, ignored)) {
    add_file(path);
  } else if (std::filesystem::exists(path / kSingleFile, ignored)) {
    add_file(path / kSingleFile);
  } else if (std::filesystem::exists(path / kIndexFile, ignored)) {
    open_shards(path / kIndexFile);
  } else {
    SLUICE_FAIL(kCheckpoint, "{}: holds neither {} nor {}{}", path.string(), kSingleFile, kIndexFile,
                std::filesystem::exists(path / "pytorch_model.bin", ignored)
                    ? "; pytorch_model.bin is not read, save the model as safetensors"
                    : "");
  }
}

void WeightDirectory::add_file(const std::filesystem::path& path) {
  files_.emplace_back(path);
  for (const StoredTensor& tensor : files_.back().tensors()) {
    const auto [entry, added] = file_of_.emplace(tensor.name, files_.size() - 1);
    SLUICE_CHECK(added, kCheckpoint, "{}: tensor {} is in {} as well", path.string(), printable(tensor.name),
                 files_[entry->second].path().string());
  }
}

void WeightDirectory::open_shards(const std::filesystem::path& index_path) {
  const Index index = read_index(index_path);
  for (const std::string& file : index.files) {
    std::error_code ignored;
    SLUICE_CHECK(std::filesystem::exists(path_ / file, ignored), kCheckpoint,
                 "{}: names {}, which is not there", index_path.string(), printable(file));
    add_file(path_ / file);
  }
  for (const auto& [name, file] : index.file_of) {
    const auto found = file_of_.find(name);
    SLUICE_CHECK(found != file_of_.end(), kCheckpoint, "{}: tensor {} should be in {}, but is in no shard",
                 index_path.string(), printable(name), file);
    const std::string actual = files_[found->second].path().filename().string();
    SLUICE_CHECK(actual == file, kCheckpoint, "{}: tensor {} should be in {}, but is in {}",
                 index_path.string(), printable(name), file, actual);
  }
  int64_t bytes = 0;
  for (const SafetensorsFile& file : files_) {
    for (const StoredTensor& tensor : file.tensors()) {
      bytes += tensor.bytes();
      SLUICE_CHECK(index.file_of.contains(tensor.name), kCheckpoint, "{}: tensor {} is not in the index {}",
                   file.path().string(), printable(tensor.name), index_path.string());
    }
  }
  // Writers differ in what they count (tied tensors, for one), so this alone makes no file invalid.
  if (index.total_size >= 0 && index.total_size != bytes) {
    log::warning("{}: metadata.total_size is {}, but the shards hold {} bytes of tensors",
                 index_path.string(), index.total_size, bytes);
  }
}

std::vector<std::string> WeightDirectory::names() const {
  std::vector<std::string> result;
  for (const auto& [name, file] : file_of_) result.push_back(name);
  return result;
}

const SafetensorsFile& WeightDirectory::file_of(std::string_view name) const {
  const auto found = file_of_.find(name);
  SLUICE_CHECK(found != file_of_.end(), kCheckpoint, "{}: holds no tensor {}", path_.string(),
               printable(name));
  return files_[found->second];
}

}  // namespace sluice
