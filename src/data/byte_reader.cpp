#include "data/byte_reader.h"

#include <algorithm>

namespace sluice {
namespace {

class PlainReader final : public ByteReader {
 public:
  explicit PlainReader(const std::filesystem::path& path) : file_(path, ErrorKind::kData) {}

  size_t read(std::span<char> out) override {
    const int64_t count = std::min(static_cast<int64_t>(out.size()), file_.size() - position_);
    file_.read_at(position_, out.first(static_cast<size_t>(count)));
    position_ += count;
    return static_cast<size_t>(count);
  }
  int64_t position() const override { return position_; }

 private:
  InputFile file_;
  int64_t position_ = 0;
};

}  // namespace

std::span<const std::byte> FileFeed::next() {
  constexpr int64_t kPiece = 1 << 18;
  buffer_.resize(static_cast<size_t>(std::min(kPiece, file_.size() - position_)));
  file_.read_at(position_, std::span<std::byte>(buffer_));
  position_ += static_cast<int64_t>(buffer_.size());
  return buffer_;
}

std::unique_ptr<ByteReader> open_bytes(const std::filesystem::path& path) {
  const auto ending = path.extension();
  if (ending == ".gz") return open_gzip(path);
  if (ending == ".xz") return open_xz(path);
  if (ending == ".zst") return open_zstd(path);
  return std::make_unique<PlainReader>(path);
}

std::filesystem::path without_compression(const std::filesystem::path& path) {
  const auto ending = path.extension();
  const bool compressed = ending == ".gz" || ending == ".xz" || ending == ".zst";
  return compressed ? std::filesystem::path(path).replace_extension() : path;
}

}  // namespace sluice
