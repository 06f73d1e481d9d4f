// What an evaluation reads: token files as they are, or text that is tokenized first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/token_stream.h"
#include "data/tokenizer.h"
#include "model/model_config.h"

namespace sluice {

class EvaluationData {
 public:
  // `sources`: token files, directories and glob patterns as data/token_formats.h reads them, or text files
  // (see is_text), not both. Text goes through `tokenizer` into a temporary shard, bos_token_id before each
  // document where the model has one; memory stays bounded. All tokens are checked against the vocabulary.
  // Error(kUsage) for text without a tokenizer or a mix of both; Error(kData) for what cannot be read.
  EvaluationData(const std::vector<std::string>& sources, const Tokenizer* tokenizer,
                 const ModelConfig& model);
  ~EvaluationData();  // removes the temporary shard
  EvaluationData(const EvaluationData&) = delete;
  EvaluationData& operator=(const EvaluationData&) = delete;

  // By name: .txt, .md, .jsonl or .ndjson, or anything compressed (.gz, .xz, .zst).
  static bool is_text(const std::filesystem::path& path);

  const TokenStream& tokens() const { return *tokens_; }
  const std::string& description() const { return description_; }

 private:
  void tokenize(const std::vector<std::string>& sources, const Tokenizer& tokenizer,
                const ModelConfig& model);

  std::filesystem::path temporary_;  // directory of the shard; empty: none
  std::string description_;
  std::unique_ptr<TokenStream> tokens_;
};

// Bytes that each token of a vocabulary stands for in a text; 0 for control tokens and ids that the tokenizer
// does not have. A space that the tokenizer puts in front of a text counts.
std::vector<int32_t> bytes_of_tokens(const Tokenizer& tokenizer, int64_t vocabulary);

}  // namespace sluice
