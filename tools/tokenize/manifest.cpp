#include "tools/tokenize/manifest.h"

#include <nlohmann/json.hpp>

#include "config/json.h"
#include "config/object_reader.h"
#include "core/file.h"

namespace sluice::tokenize {

void write_manifest(const std::filesystem::path& directory, const std::string& prefix,
                    const Manifest& manifest, const Tokenizer& tokenizer,
                    const std::vector<ShardWriter::Shard>& shards) {
  Json files = Json::array();
  for (const auto& shard : shards) files.push_back({{"name", shard.name}, {"tokens", shard.tokens}});
  const Json json = {
      {"tokenizer",
       {{"file", tokenizer.path().filename().string()},
        {"sha256", tokenizer.sha256()},
        {"vocabulary_size", tokenizer.vocabulary_size()}}},
      {"document_token", manifest.document_token},
      {"tokens", manifest.tokens},
      {"documents", manifest.documents},
      {"bytes", manifest.bytes},
      {"files", files},
  };
  write_file_atomically(directory / (prefix + ".json"), dump_json(json) + "\n", ErrorKind::kData);
}

std::optional<Manifest> find_manifest(const std::filesystem::path& shard) {
  // train_000012.bin belongs to train.json.
  const std::string stem = shard.stem().string();
  const size_t underscore = stem.rfind('_');
  if (underscore == std::string::npos) return std::nullopt;
  const auto path = shard.parent_path() / (stem.substr(0, underscore) + ".json");
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json json = read_json_file(path, ErrorKind::kData);
  Problems problems;
  ObjectReader reader(json, "", problems);
  Manifest manifest;
  manifest.document_token = reader.required_integer("document_token", 0);
  manifest.tokens = reader.required_integer("tokens", 1);
  manifest.documents = reader.required_integer("documents", 0);
  manifest.bytes = reader.required_integer("bytes", 0);
  for (const char* key : {"tokenizer", "files"}) reader.ignore(key);
  reader.finish();
  problems.throw_if_any(path.string(), ErrorKind::kData);
  return manifest;
}

}  // namespace sluice::tokenize
