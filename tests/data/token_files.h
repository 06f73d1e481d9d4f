// Writes token files byte by byte, apart from the code under test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sluice::test {

// first, first + 1, ...
std::vector<int32_t> consecutive(int64_t count, int32_t first = 0);

void write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes);
// "88d83401..." to bytes.
void write_hex(const std::filesystem::path& path, std::string_view hex);

void write_shard16(const std::filesystem::path& path, const std::vector<int32_t>& tokens);
void write_shard32(const std::filesystem::path& path, const std::vector<int32_t>& tokens);
// Raw llm.c header words in front of nothing.
std::vector<std::byte> shard_header(int32_t magic, int32_t version, int32_t count);

// An index of the given dtype over sequences of these lengths, `bounds` as stored.
std::vector<std::byte> megatron_index(uint8_t dtype, const std::vector<int32_t>& lengths,
                                      const std::vector<int64_t>& bounds);
void write_tokens16(const std::filesystem::path& path, const std::vector<int32_t>& tokens);

// Runs `body`, which must throw an Error, and gives back "EXIT_CODE MESSAGE".
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return std::to_string(error.exit_code()) + " " + error.what();
  }
  return "no error";
}

}  // namespace sluice::test
