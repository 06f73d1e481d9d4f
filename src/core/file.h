// Files by 64-bit offset, durable writes, and whole small files. Reads use pread, never mmap, so a file that
// shrinks under a running program is an error with a name and not a SIGBUS.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sluice {

// A file opened for reading. Errors carry the kind given at open, e.g. kData for shards.
class InputFile {
 public:
  InputFile(const std::filesystem::path& path, ErrorKind kind);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }  // bytes when opened
  // Fills `out` from byte `offset` on, or throws naming the path and the byte where the file ended.
  void read_at(int64_t offset, std::span<std::byte> out) const;
  template <class T>
  void read_at(int64_t offset, std::span<T> out) const {
    read_at(offset, std::as_writable_bytes(out));
  }

 private:
  std::filesystem::path path_;
  ErrorKind kind_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// A file created (or truncated, or appended to) for writing. Nothing is durable before sync().
class OutputFile {
 public:
  enum class Mode { kTruncate, kAppend };
  OutputFile(const std::filesystem::path& path, ErrorKind kind, Mode mode = Mode::kTruncate);
  ~OutputFile();  // closes; errors of the close are lost, so call close() where they matter
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }  // bytes written so far, and for kAppend those that were there
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  // Overwrites bytes already written, e.g. a count in a header.
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  void sync();  // fsync
  void close();

 private:
  std::filesystem::path path_;
  ErrorKind kind_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

std::string read_text_file(const std::filesystem::path& path, ErrorKind kind);
// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the directory.
void write_file_atomically(const std::filesystem::path& path, std::string_view content, ErrorKind kind);
void sync_directory(const std::filesystem::path& directory, ErrorKind kind);
void create_directories(const std::filesystem::path& directory, ErrorKind kind);

}  // namespace sluice
