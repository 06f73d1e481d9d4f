// Token shards of llm.c: 256 little-endian int32, then the tokens, nothing behind them.
//   [0] magic  [1] version  [2] token count  rest 0
//   20240520, version 1: uint16 tokens     20240801, version 7: uint32 tokens
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>

#include "data/token_file.h"

namespace sluice::llmc {

constexpr int64_t kHeaderInts = 256;
constexpr int64_t kHeaderBytes = kHeaderInts * 4;
constexpr int64_t kMaximumTokens = (int64_t{1} << 31) - 1;  // what the header's int32 can say

// Whether the first bytes are those of any llm.c file, a shard with a damaged magic included; open() then
// explains what is wrong with it.
bool is_llmc(const InputFile& file);

// Error(kData) unless the header is that of a token shard and the size fits it exactly.
TokenFile open(const std::filesystem::path& path);

// uint16 (v1) or uint32 (v7).
std::array<int32_t, kHeaderInts> header(TokenType type, int64_t tokens);

}  // namespace sluice::llmc
