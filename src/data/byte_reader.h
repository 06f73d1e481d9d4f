// A file's bytes in order, decompressed on the way when its name ends in .gz, .xz or .zst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "core/file.h"

namespace sluice {

class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills `out` as far as there is something; fewer bytes than asked for, or 0, only at the end. Error(kData)
  // naming the file where it cannot be read, is damaged, or ends inside a compressed stream.
  virtual size_t read(std::span<char> out) = 0;
  // Bytes of the file consumed so far, compressed ones where it is: for progress.
  virtual int64_t position() const = 0;
};

std::unique_ptr<ByteReader> open_bytes(const std::filesystem::path& path);
// The name without an ending that open_bytes decompresses: "a.jsonl.gz" gives "a.jsonl".
std::filesystem::path without_compression(const std::filesystem::path& path);

// A file in pieces of bounded size: what the decompressors feed on.
class FileFeed {
 public:
  explicit FileFeed(const std::filesystem::path& path) : file_(path, ErrorKind::kData) {}

  // The next piece, valid until the next call; empty at the end.
  std::span<const std::byte> next();
  int64_t position() const { return position_; }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  InputFile file_;
  int64_t position_ = 0;
  std::vector<std::byte> buffer_;
};

// gzip_reader.cpp (zlib), xz_reader.cpp (liblzma), zstd_reader.cpp (libzstd). Several
// streams one behind the other are one text, as the command line tools have it.
std::unique_ptr<ByteReader> open_gzip(const std::filesystem::path& path);
std::unique_ptr<ByteReader> open_xz(const std::filesystem::path& path);
std::unique_ptr<ByteReader> open_zstd(const std::filesystem::path& path);

}  // namespace sluice
