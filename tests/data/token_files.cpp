#include "data/token_files.h"

#include <cstring>
#include <numeric>

#include "core/file.h"

namespace sluice::test {
namespace {

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

}  // namespace

std::vector<int32_t> consecutive(int64_t count, int32_t first) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

void write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  // A new file: some file systems write the old one out when it is emptied, which takes its time.
  std::filesystem::remove(path);
  OutputFile(path, ErrorKind::kData).write(bytes);
}

void write_hex(const std::filesystem::path& path, std::string_view hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  write_bytes(path, bytes);
}

std::vector<std::byte> shard_header(int32_t magic, int32_t version, int32_t count) {
  std::vector<std::byte> bytes;
  for (const int32_t word : {magic, version, count}) append(bytes, word);
  bytes.resize(1024);
  return bytes;
}

void write_shard16(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  auto bytes = shard_header(20240520, 1, static_cast<int32_t>(tokens.size()));
  for (const int32_t token : tokens) append(bytes, static_cast<uint16_t>(token));
  write_bytes(path, bytes);
}

void write_shard32(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  auto bytes = shard_header(20240801, 7, static_cast<int32_t>(tokens.size()));
  for (const int32_t token : tokens) append(bytes, token);
  write_bytes(path, bytes);
}

std::vector<std::byte> megatron_index(uint8_t dtype, const std::vector<int32_t>& lengths,
                                      const std::vector<int64_t>& bounds) {
  std::vector<std::byte> bytes;
  for (const char letter : {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'}) append(bytes, letter);
  append(bytes, uint64_t{1});
  append(bytes, dtype);
  append(bytes, static_cast<uint64_t>(lengths.size()));
  append(bytes, static_cast<uint64_t>(bounds.size()));
  for (const int32_t length : lengths) append(bytes, length);
  int64_t pointer = 0;
  for (const int32_t length : lengths) {
    append(bytes, pointer);
    pointer += int64_t{length} * (dtype == 8 ? 2 : 4);
  }
  for (const int64_t bound : bounds) append(bytes, bound);
  return bytes;
}

void write_tokens16(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  std::vector<std::byte> bytes;
  for (const int32_t token : tokens) append(bytes, static_cast<uint16_t>(token));
  write_bytes(path, bytes);
}

}  // namespace sluice::test
