// PREFIX.json beside the shards of a prefix: what they were made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/shard_writer.h"
#include "data/tokenizer.h"

namespace sluice::tokenize {

struct Manifest {
  int64_t document_token = 0;
  int64_t documents = 0;
  int64_t bytes = 0;   // of text, as UTF-8
  int64_t tokens = 0;  // document tokens included
};

// Atomically.
void write_manifest(const std::filesystem::path& directory, const std::string& prefix,
                    const Manifest& manifest, const Tokenizer& tokenizer,
                    const std::vector<ShardWriter::Shard>& shards);

// The manifest of the set that `shard` belongs to; nothing where there is none. Error(kData) for a damaged
// one.
std::optional<Manifest> find_manifest(const std::filesystem::path& shard);

}  // namespace sluice::tokenize
