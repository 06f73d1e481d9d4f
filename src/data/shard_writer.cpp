#include "data/shard_writer.h"

#include <unistd.h>

#include <algorithm>

#include "core/error.h"
#include "data/llmc_shard.h"

namespace sluice {

namespace fs = std::filesystem;

ShardWriter::ShardWriter(const fs::path& directory, std::string prefix, int64_t vocabulary_size,
                         int64_t shard_tokens)
    : directory_(directory),
      prefix_(std::move(prefix)),
      type_(vocabulary_size <= 65536 ? TokenType::kUint16 : TokenType::kUint32),
      shard_tokens_(shard_tokens) {
  SLUICE_CHECK(shard_tokens >= 1 && shard_tokens <= llmc::kMaximumTokens, kUsage,
               "{} tokens a shard must be in 1 to {}", shard_tokens, llmc::kMaximumTokens);
  create_directories(directory_, ErrorKind::kData);
  std::error_code code;
  for (fs::directory_iterator at(directory_, code), end; !code && at != end; at.increment(code)) {
    const std::string name = at->path().filename().string();
    SLUICE_CHECK(
        !name.starts_with(prefix_ + "_") || !name.ends_with(".bin"), kUsage,
        "{}: shards of this prefix are here already; remove them, or choose another directory or prefix",
        at->path().string());
  }
  SLUICE_CHECK(!code, kData, "{}: cannot list directory: {}", directory_.string(), code.message());
}

ShardWriter::~ShardWriter() {
  if (finished_) return;
  file_.reset();
  std::error_code ignored;
  for (size_t i = 0; i < shards_.size(); ++i) fs::remove(temporary(i), ignored);
}

fs::path ShardWriter::temporary(size_t index) const {
  return directory_ / fmt::format(".{}.tmp-{}", shards_[index].name, ::getpid());
}

void ShardWriter::open_shard() {
  shards_.push_back({fmt::format("{}_{:06}.bin", prefix_, shards_.size()), 0});
  file_.emplace(temporary(shards_.size() - 1), ErrorKind::kData);
  const std::vector<std::byte> header(llmc::kHeaderBytes);
  file_->write(header);
}

// The header is written last, when the count is known.
void ShardWriter::close_shard() {
  const auto header = llmc::header(type_, shards_.back().tokens);
  file_->write_at(0, std::as_bytes(std::span(header)));
  file_->sync();
  file_->close();
  file_.reset();
}

void ShardWriter::append(std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    if (!file_) open_shard();
    Shard& shard = shards_.back();
    const auto piece = tokens.first(
        static_cast<size_t>(std::min(static_cast<int64_t>(tokens.size()), shard_tokens_ - shard.tokens)));
    if (type_ == TokenType::kUint16) {
      narrow_.assign(piece.begin(), piece.end());
      file_->write(std::as_bytes(std::span(narrow_)));
    } else {
      file_->write(std::as_bytes(piece));
    }
    const auto count = static_cast<int64_t>(piece.size());
    shard.tokens += count;
    total_ += count;
    if (shard.tokens == shard_tokens_) close_shard();
    tokens = tokens.subspan(piece.size());
  }
}

std::vector<ShardWriter::Shard> ShardWriter::finish() {
  SLUICE_ASSERT(!finished_);
  if (file_) close_shard();
  for (size_t i = 0; i < shards_.size(); ++i) {
    std::error_code code;
    fs::rename(temporary(i), directory_ / shards_[i].name, code);
    SLUICE_CHECK(!code, kData, "{}: cannot rename to {}: {}", temporary(i).string(), shards_[i].name,
                 code.message());
  }
  sync_directory(directory_, ErrorKind::kData);
  finished_ = true;
  return shards_;
}

}  // namespace sluice
