// Bare uint16 tokens without any header, as nanoGPT's train.bin holds them.
#pragma once

#include <filesystem>

#include "data/token_file.h"

namespace sluice::bare_tokens {

// Error(kData) for an empty file, an odd size, or the first bytes of a well-known other format.
TokenFile open(const std::filesystem::path& path);

}  // namespace sluice::bare_tokens
