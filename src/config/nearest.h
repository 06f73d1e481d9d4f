// Which word was meant by a misspelt one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice {

// Insertions, deletions, replacements and swaps of neighbours that lead from `typed` to `word`, both taken
// without case, '-' and '_' (optimal string alignment). Nothing when they are too many for a slip: more than
// a third of the longer word, or any word above 64 bytes.
std::optional<int64_t> slip_distance(std::string_view typed, std::string_view word);

}  // namespace sluice
