#include "train/task_text.h"

#include <algorithm>
#include <array>

namespace sluice {
namespace {

// ASCII: tab to carriage return, the four separators, space. Then U+0085, U+00A0, U+1680, U+2000 to U+200A,
// U+2028, U+2029, U+202F, U+205F, U+3000.
constexpr std::array<std::string_view, 29> kSpaces = {
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1C",         "\x1D",         "\x1E",         "\x1F",         " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

size_t length_without_trailing_space(std::string_view text) {
  for (;;) {
    const auto space = std::find_if(kSpaces.begin(), kSpaces.end(),
                                    [&](std::string_view candidate) { return text.ends_with(candidate); });
    if (space == kSpaces.end()) return text.size();
    text.remove_suffix(space->size());
  }
}

int64_t character_count(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool contains_any(std::string_view text, std::span<const std::string> answers) {
  const auto same = [](char a, char b) { return lower(a) == lower(b); };
  return std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
    return std::search(text.begin(), text.end(), answer.begin(), answer.end(), same) != text.end();
  });
}

}  // namespace sluice
