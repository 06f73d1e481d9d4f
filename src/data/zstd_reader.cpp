#include <zstd.h>

#include "data/byte_reader.h"

namespace sluice {
namespace {

class ZstdReader final : public ByteReader {
 public:
  explicit ZstdReader(const std::filesystem::path& path) : feed_(path), context_(::ZSTD_createDCtx()) {
    SLUICE_CHECK(context_ != nullptr, kOutOfMemory, "{}: no memory to decompress", path.string());
  }

  size_t read(std::span<char> out) override {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    while (output.pos < output.size) {
      if (input_.pos == input_.size) {
        const auto piece = feed_.next();
        input_ = {piece.data(), piece.size(), 0};
      }
      // Without input the decoder may still hold output; when it gives none, the file is at its end.
      const size_t before = output.pos;
      const bool at_end = input_.size == 0;
      if (at_end && frame_complete_) break;
      const size_t result = ::ZSTD_decompressStream(context_.get(), &output, &input_);
      SLUICE_CHECK(::ZSTD_isError(result) == 0, kData, "{}: damaged zstd data before byte {}: {}",
                   feed_.path().string(), feed_.position(), ::ZSTD_getErrorName(result));
      frame_complete_ = result == 0;
      SLUICE_CHECK(!at_end || frame_complete_ || output.pos > before, kData,
                   "{}: ends inside a zstd frame; the file is cut", feed_.path().string());
    }
    return output.pos;
  }
  int64_t position() const override { return feed_.position(); }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ::ZSTD_freeDCtx(context); }
  };
  FileFeed feed_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool frame_complete_ = false;
};

}  // namespace

std::unique_ptr<ByteReader> open_zstd(const std::filesystem::path& path) {
  return std::make_unique<ZstdReader>(path);
}

}  // namespace sluice
