#include "data/megatron_writer.h"

#include <unistd.h>

#include <limits>

#include "core/error.h"
#include "data/megatron_dataset.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint8_t kInt32Code = 4, kUint16Code = 8;

void check_absent(const fs::path& path) {
  std::error_code ignored;
  SLUICE_CHECK(!fs::exists(path, ignored), kUsage, "{}: exists; name another file or remove it",
               path.string());
}

// Gathers small fields, so that the index is written in large pieces.
class FieldWriter {
 public:
  explicit FieldWriter(OutputFile& file) : file_(file) {}

  void text(std::string_view bytes) { buffer_ += bytes; }
  template <class T>
  void field(T value) {
    buffer_.append(reinterpret_cast<const char*>(&value), sizeof value);
    if (buffer_.size() >= kPiece) flush();
  }
  void flush() {
    file_.write(buffer_);
    buffer_.clear();
  }

 private:
  static constexpr size_t kPiece = 1 << 20;
  OutputFile& file_;
  std::string buffer_;
};

void publish_as(const fs::path& from, const fs::path& to) {
  std::error_code code;
  fs::rename(from, to, code);
  SLUICE_CHECK(!code, kData, "{}: cannot rename to {}: {}", from.string(), to.string(), code.message());
}

}  // namespace

MegatronWriter::MegatronWriter(const fs::path& bin, TokenType type)
    : bin_(bin), index_(megatron::index_path(bin)), type_(type) {
  SLUICE_CHECK(bin.extension() == ".bin", kUsage, "{}: the tokens of a Megatron dataset are named PREFIX.bin",
               bin.string());
  SLUICE_ASSERT(type != TokenType::kUint32);
  check_absent(bin_);
  check_absent(index_);
  if (bin_.has_parent_path()) create_directories(bin_.parent_path(), ErrorKind::kData);
  // Beside each other under the names a dataset has, so that the pair can be opened before it is published.
  const std::string stem = fmt::format(".{}.tmp-{}", bin_.stem().string(), ::getpid());
  temporary_bin_ = bin_.parent_path() / (stem + ".bin");
  temporary_index_ = bin_.parent_path() / (stem + ".idx");
  file_.emplace(temporary_bin_, ErrorKind::kData);
}

MegatronWriter::~MegatronWriter() {
  if (finished_) return;
  file_.reset();
  std::error_code ignored;
  fs::remove(temporary_bin_, ignored);
  fs::remove(temporary_index_, ignored);
}

void MegatronWriter::append(std::span<const int32_t> tokens) {
  if (type_ == TokenType::kInt32) {
    file_->write(std::as_bytes(tokens));
  } else {
    for (size_t i = 0; i < tokens.size(); ++i) {
      SLUICE_CHECK(tokens[i] <= std::numeric_limits<uint16_t>::max(), kData,
                   "{}: token {} is {}, which uint16 cannot hold; write int32", bin_.string(),
                   tokens_ + static_cast<int64_t>(i), tokens[i]);
    }
    narrow_.assign(tokens.begin(), tokens.end());
    file_->write(std::as_bytes(std::span(narrow_)));
  }
  tokens_ += static_cast<int64_t>(tokens.size());
}

void MegatronWriter::end_document() {
  const int64_t begin = ends_.empty() ? 0 : ends_.back();
  if (tokens_ == begin) return;
  SLUICE_CHECK(tokens_ - begin <= std::numeric_limits<int32_t>::max(), kData,
               "{}: document {} has {} tokens; a Megatron index holds lengths below 2^31", bin_.string(),
               ends_.size(), tokens_ - begin);
  ends_.push_back(tokens_);
}

void MegatronWriter::finish() {
  SLUICE_CHECK(tokens_ > 0, kData, "{}: there are no tokens to write", bin_.string());
  end_document();
  OutputFile index(temporary_index_, ErrorKind::kData);
  FieldWriter writer(index);
  writer.text(kMagic);
  writer.field(uint64_t{1});
  writer.field(type_ == TokenType::kInt32 ? kInt32Code : kUint16Code);
  const auto documents = static_cast<int64_t>(ends_.size());
  writer.field(documents);
  writer.field(documents + 1);
  for (size_t i = 0; i < ends_.size(); ++i)
    writer.field(static_cast<int32_t>(ends_[i] - (i == 0 ? 0 : ends_[i - 1])));
  for (size_t i = 0; i < ends_.size(); ++i) writer.field((i == 0 ? 0 : ends_[i - 1]) * size_of(type_));
  for (int64_t i = 0; i <= documents; ++i) writer.field(i);
  writer.flush();
  index.sync();
  index.close();
  publish();
}

void MegatronWriter::finish_with_index(const fs::path& index) {
  std::error_code code;
  fs::copy_file(index, temporary_index_, code);
  SLUICE_CHECK(!code, kData, "{}: cannot copy to {}: {}", index.string(), temporary_index_.string(),
               code.message());
  publish();
}

void MegatronWriter::publish() {
  file_->sync();
  file_->close();
  file_.reset();
  const TokenFile whole = megatron::open(temporary_bin_);  // an index of other tokens does not fit
  SLUICE_CHECK(whole.type() == type_, kData, "{}: the index counts {} tokens, but {} were written",
               bin_.string(), whole.format(), type_ == TokenType::kUint16 ? "uint16" : "int32");
  publish_as(temporary_bin_, bin_);
  publish_as(temporary_index_, index_);
  sync_directory(bin_.has_parent_path() ? bin_.parent_path() : fs::path("."), ErrorKind::kData);
  finished_ = true;
}

}  // namespace sluice
