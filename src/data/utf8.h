// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::utf8 {

// Length of the character at the front: 1 to 4; 0 where it is invalid or `text` is empty; and where `text`
// ends inside a character that may still become valid, minus the bytes that are there.
int character_length(std::string_view text);

// How many of the last bytes are a character's beginning that more bytes may complete: 0 to 3.
size_t incomplete_tail(std::string_view text);

// Appends `text` to `out` with U+FFFD for every maximal part that is no beginning of a character (the
// standard's "substitution of maximal subparts"). Returns how many were put in.
int64_t append_valid(std::string_view text, std::string& out);

}  // namespace sluice::utf8
