// Writes an indexed dataset of Megatron-LM (megatron_dataset.h has the format): P.bin, and P.idx in which
// every document is one sequence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "core/file.h"
#include "data/token_file.h"

namespace sluice {

// Both files have temporary names until finish(); without it the destructor removes them.
class MegatronWriter {
 public:
  // `bin`: P.bin. Type kUint16 or kInt32. Error(kUsage) when P.bin or P.idx exists.
  MegatronWriter(const std::filesystem::path& bin, TokenType type);
  ~MegatronWriter();
  MegatronWriter(const MegatronWriter&) = delete;
  MegatronWriter& operator=(const MegatronWriter&) = delete;

  // Error(kData) for a token that the type cannot hold, or a file that cannot be written.
  void append(std::span<const int32_t> tokens);
  // The tokens appended since the last call are a document; none: nothing happens. Error(kData) beyond 2^31 -
  // 1 tokens, which the index cannot say.
  void end_document();
  // Ends the last document, writes the index, makes both durable and gives them their names. Error(kData)
  // when nothing was appended.
  void finish();
  // The same with the bytes of an index that exists, e.g. the one the tokens once came with. Error(kData)
  // when it does not fit the tokens.
  void finish_with_index(const std::filesystem::path& index);

  int64_t tokens() const { return tokens_; }

 private:
  void publish();

  std::filesystem::path bin_, index_, temporary_bin_, temporary_index_;
  TokenType type_;
  std::optional<OutputFile> file_;
  std::vector<uint16_t> narrow_;
  std::vector<int64_t> ends_;  // of the documents, in tokens
  int64_t tokens_ = 0;
  bool finished_ = false;
};

}  // namespace sluice
