// Indexed datasets of Megatron-LM: P.bin holds bare tokens, P.idx says where sequences and documents begin.
//   P.idx: "MMIDIDX\0\0" | u64 version = 1 | u8 dtype | u64 S sequences | u64 D = documents + 1
//          | S x int32 lengths | S x int64 byte offsets into P.bin | D x int64 first sequence of each
//          document | optional S x int8 modes
// Token types 4 (int32) and 8 (uint16) are read.
#pragma once

#include <filesystem>

#include "data/token_file.h"

namespace sluice::megatron {

// P.idx for P.bin.
std::filesystem::path index_path(const std::filesystem::path& bin);

// Error(kData) unless the index is whole, its sequences cover P.bin without a gap, and documents are in
// order.
TokenFile open(const std::filesystem::path& bin);

}  // namespace sluice::megatron
