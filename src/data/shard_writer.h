// Writes llm.c token shards: DIR/PREFIX_000000.bin, PREFIX_000001.bin, ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "data/token_file.h"

namespace sluice {

// Version 1 (uint16) for vocabularies up to 65536, else 7 (uint32). Shards have temporary names until
// finish(), so that a directory never holds part of a set; without finish() the destructor removes them.
class ShardWriter {
 public:
  struct Shard {
    std::string name;  // of the file, without its folder
    int64_t tokens;
  };

  // `shard_tokens`: in every shard but the last, 1 to 2^31 - 1. Error(kUsage) when DIR has shards of this
  // prefix.
  ShardWriter(const std::filesystem::path& directory, std::string prefix, int64_t vocabulary_size,
              int64_t shard_tokens);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Error(kData) naming the file when it cannot be written, the disk being full for instance.
  void append(std::span<const int32_t> tokens);
  // Makes all durable and gives the shards their names. Nothing appended: no files.
  std::vector<Shard> finish();

  int64_t tokens() const { return total_; }
  TokenType type() const { return type_; }

 private:
  std::filesystem::path temporary(size_t index) const;
  void open_shard();
  void close_shard();

  std::filesystem::path directory_;
  std::string prefix_;
  TokenType type_;
  int64_t shard_tokens_;
  std::vector<Shard> shards_;
  std::optional<OutputFile> file_;  // of the last shard, while it takes more
  std::vector<uint16_t> narrow_;
  int64_t total_ = 0;
  bool finished_ = false;
};

}  // namespace sluice
