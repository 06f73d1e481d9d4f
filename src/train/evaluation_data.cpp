#include "train/evaluation_data.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/shard_writer.h"
#include "data/text_source.h"
#include "data/token_formats.h"

namespace sluice {
namespace {

constexpr int64_t kShardTokens = int64_t{1} << 30;

std::filesystem::path make_temporary_directory() {
  std::error_code error;
  std::string path = (std::filesystem::temp_directory_path(error) / "sluice-evaluate-XXXXXX").string();
  const bool made = !error && ::mkdtemp(path.data()) != nullptr;
  SLUICE_CHECK(
      made, kData,
      "no temporary directory for the tokenized text could be made ({}): {}; set TMPDIR to a directory "
      "with room",
      path, error ? error.message() : std::strerror(errno));
  return path;
}

}  // namespace

bool EvaluationData::is_text(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  for (const char* text : {".txt", ".md", ".jsonl", ".ndjson", ".gz", ".xz", ".zst"}) {
    if (extension == text) return true;
  }
  return false;
}

EvaluationData::EvaluationData(const std::vector<std::string>& sources, const Tokenizer* tokenizer,
                               const ModelConfig& model) {
  int64_t texts = 0;
  for (const std::string& source : sources) {
    texts += is_text(source);
    description_ += (description_.empty() ? "" : ", ") + source;
  }
  if (texts == 0) {
    std::vector<std::filesystem::path> files;
    for (const std::string& source : sources) {
      for (auto& file : expand_sources(source)) files.push_back(std::move(file));
    }
    tokens_ = std::make_unique<TokenStream>(files);
  } else {
    SLUICE_CHECK(texts == static_cast<int64_t>(sources.size()), kUsage,
                 "{}: some are text and some token files; evaluate them one after the other", description_);
    SLUICE_CHECK(
        tokenizer != nullptr, kUsage,
        "{} is text, and there is no tokenizer.model beside the weights to read it with; give one with "
        "--tokenizer, or token files",
        description_);
    temporary_ = make_temporary_directory();
    try {
      tokenize(sources, *tokenizer, model);
    } catch (...) {
      std::error_code ignored;  // the destructor of what is not constructed does not run
      std::filesystem::remove_all(temporary_, ignored);
      throw;
    }
  }
  tokens_->check_vocabulary(model.vocab_size);
}

EvaluationData::~EvaluationData() {
  tokens_.reset();
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

void EvaluationData::tokenize(const std::vector<std::string>& sources, const Tokenizer& tokenizer,
                              const ModelConfig& model) {
  TextSource texts({sources.begin(), sources.end()}, {});
  ShardWriter shard(temporary_, "text", tokenizer.vocabulary_size(), kShardTokens);
  Encoder encoder(tokenizer);
  Progress progress("tokenize", static_cast<double>(texts.bytes_total()) / 1e6, "MB");
  std::vector<int32_t> ids;
  for (TextPiece piece; texts.next(piece);) {
    ids.clear();
    if (piece.begins_document && model.bos_token_id) ids.push_back(static_cast<int32_t>(*model.bos_token_id));
    encoder.encode(piece.text, !piece.begins_document, ids);
    shard.append(ids);
    progress.update(static_cast<double>(texts.bytes_read()) / 1e6);
  }
  shard.finish();
  SLUICE_CHECK(shard.tokens() > 0, kData, "{}: no text in it", description_);
  if (texts.replaced() > 0) {
    log::warning("{}: {} invalid UTF-8 sequences read as U+FFFD", description_, texts.replaced());
  }
  tokens_ = std::make_unique<TokenStream>(expand_sources(temporary_.string()));
}

std::vector<int32_t> bytes_of_tokens(const Tokenizer& tokenizer, int64_t vocabulary) {
  std::vector<int32_t> bytes(static_cast<size_t>(vocabulary), 0);
  const int64_t known = std::min(vocabulary, tokenizer.vocabulary_size());
  for (int64_t id = 0; id < known; ++id) {
    bytes[static_cast<size_t>(id)] =
        static_cast<int32_t>(tokenizer.bytes_of(static_cast<int32_t>(id)).size());
  }
  return bytes;
}

}  // namespace sluice
