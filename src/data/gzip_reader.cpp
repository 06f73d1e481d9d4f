#define ZLIB_CONST  // next_in may point to const bytes
#include <zlib.h>

#include <algorithm>

#include "data/byte_reader.h"

namespace sluice {
namespace {

class GzipReader final : public ByteReader {
 public:
  explicit GzipReader(const std::filesystem::path& path) : feed_(path) {
    // 15 bits of window; +16: a gzip header, not zlib's.
    SLUICE_CHECK(::inflateInit2(&stream_, 15 + 16) == Z_OK, kOutOfMemory, "{}: no memory to decompress",
                 path.string());
  }
  ~GzipReader() override { ::inflateEnd(&stream_); }

  size_t read(std::span<char> out) override {
    size_t done = 0;
    while (done < out.size() && !finished_) done += inflate_into(out.subspan(done));
    return done;
  }
  int64_t position() const override { return feed_.position(); }

 private:
  size_t inflate_into(std::span<char> out) {
    if (stream_.avail_in == 0) {
      input_ = feed_.next();
      stream_.next_in = reinterpret_cast<const Bytef*>(input_.data());
      stream_.avail_in = static_cast<uInt>(input_.size());
      if (input_.empty()) {
        SLUICE_CHECK(between_streams_, kData, "{}: ends inside a gzip stream; the file is cut",
                     feed_.path().string());
        finished_ = true;
        return 0;
      }
    }
    if (between_streams_) ::inflateReset(&stream_);
    between_streams_ = false;
    const auto room = static_cast<uInt>(std::min<size_t>(out.size(), 1u << 30));
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = room;
    const int result = ::inflate(&stream_, Z_NO_FLUSH);
    SLUICE_CHECK(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, kData,
                 "{}: damaged gzip data before byte {}: {}", feed_.path().string(), feed_.position(),
                 stream_.msg != nullptr ? stream_.msg : "no valid stream");
    if (result == Z_STREAM_END) between_streams_ = true;
    return room - stream_.avail_out;
  }

  FileFeed feed_;
  std::span<const std::byte> input_;
  z_stream stream_{};
  bool between_streams_ = false;  // at a place where the file may end
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<ByteReader> open_gzip(const std::filesystem::path& path) {
  return std::make_unique<GzipReader>(path);
}

}  // namespace sluice
