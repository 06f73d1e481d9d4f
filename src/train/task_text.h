// The rules of text that task scores hang on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

// Bytes of `text` before the white space at its end, white space being what Python's str.rstrip takes off.
size_t length_without_trailing_space(std::string_view text);

// Unicode characters of valid UTF-8.
int64_t character_count(std::string_view text);

// Whether `text` holds one of the answers, A to Z and a to z taken for the same letters.
bool contains_any(std::string_view text, std::span<const std::string> answers);

}  // namespace sluice
