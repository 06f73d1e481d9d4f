// Safetensors files put together by hand, right or wrong.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>

#include "core/file.h"

namespace sluice::test {

inline std::string raw_length(uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof length);
}

// Header and data as they stand: no padding, nothing checked.
inline std::string raw_safetensors(const std::string& header, const std::string& data = "") {
  return raw_length(header.size()) + header + data;
}

inline void write_raw(const std::filesystem::path& path, const std::string& bytes) {
  // A new file: some file systems flush one that was truncated when it is closed, which takes milliseconds.
  std::filesystem::remove(path);
  OutputFile(path, ErrorKind::kCheckpoint).write(bytes);
}

inline std::string read_raw(const std::filesystem::path& path) {
  return read_text_file(path, ErrorKind::kCheckpoint);
}

}  // namespace sluice::test
