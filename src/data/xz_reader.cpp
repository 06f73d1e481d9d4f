#include <lzma.h>

#include "data/byte_reader.h"

namespace sluice {
namespace {

const char* describe(lzma_ret result) {
  switch (result) {
    case LZMA_FORMAT_ERROR:
      return "no xz stream";
    case LZMA_OPTIONS_ERROR:
      return "unsupported options";
    case LZMA_MEMLIMIT_ERROR:
      return "it needs more than 1 GiB to decompress";
    case LZMA_BUF_ERROR:
      return "the file is cut";
    default:
      return "the data is damaged";
  }
}

class XzReader final : public ByteReader {
 public:
  explicit XzReader(const std::filesystem::path& path) : feed_(path) {
    SLUICE_CHECK(::lzma_stream_decoder(&stream_, uint64_t{1} << 30, LZMA_CONCATENATED) == LZMA_OK,
                 kOutOfMemory, "{}: no memory to decompress", path.string());
  }
  ~XzReader() override { ::lzma_end(&stream_); }

  size_t read(std::span<char> out) override {
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    while (stream_.avail_out > 0 && !finished_) {
      if (stream_.avail_in == 0 && !exhausted_) {
        const auto input = feed_.next();
        exhausted_ = input.empty();
        stream_.next_in = reinterpret_cast<const uint8_t*>(input.data());
        stream_.avail_in = input.size();
      }
      const lzma_ret result = ::lzma_code(&stream_, exhausted_ ? LZMA_FINISH : LZMA_RUN);
      finished_ = result == LZMA_STREAM_END;
      SLUICE_CHECK(result == LZMA_OK || finished_, kData, "{}: cannot decompress before byte {}: {}",
                   feed_.path().string(), feed_.position(), describe(result));
    }
    return out.size() - stream_.avail_out;
  }
  int64_t position() const override { return feed_.position(); }

 private:
  FileFeed feed_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool exhausted_ = false;
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<ByteReader> open_xz(const std::filesystem::path& path) {
  return std::make_unique<XzReader>(path);
}

}  // namespace sluice
