// Broken files from good ones, the same ones every time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::fuzz {

// One to eight edits of one of the seeds: bytes and numbers changed, pieces removed, repeated, or taken from
// elsewhere, the end cut off. Number `index` of the series of `stream`.
std::string mutated(const std::vector<std::string>& seeds, uint64_t stream, uint64_t index);

}  // namespace sluice::fuzz
