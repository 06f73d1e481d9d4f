#include "data/utf8.h"

#include <algorithm>
#include <cstring>

namespace sluice::utf8 {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

unsigned char byte_at(std::string_view text, size_t index) { return static_cast<unsigned char>(text[index]); }

// Bytes of the front that are a character's beginning, complete or not, and the length its first byte asks
// for.
struct Front {
  size_t good;
  size_t wanted;
};

Front measure(std::string_view text) {
  const unsigned char lead = byte_at(text, 0);
  if (lead < 0x80) return {1, 1};
  size_t wanted = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte; narrower where the first one demands it
  if (lead >= 0xC2 && lead <= 0xDF) {
    wanted = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    wanted = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    wanted = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0, 0};
  }
  size_t good = 1;
  while (good < wanted && good < text.size() && byte_at(text, good) >= low && byte_at(text, good) <= high) {
    low = 0x80;
    high = 0xBF;
    ++good;
  }
  return {good, wanted};
}

// Bytes at the front below 0x80, eight at a time.
size_t ascii_length(std::string_view text) {
  size_t length = 0;
  for (uint64_t word; length + sizeof(word) <= text.size(); length += sizeof(word)) {
    std::memcpy(&word, text.data() + length, sizeof(word));
    if ((word & 0x8080808080808080ull) != 0) break;
  }
  while (length < text.size() && byte_at(text, length) < 0x80) ++length;
  return length;
}

}  // namespace

int character_length(std::string_view text) {
  if (text.empty()) return 0;
  const Front front = measure(text);
  if (front.wanted > 0 && front.good == front.wanted) return static_cast<int>(front.good);
  return front.wanted > 0 && front.good == text.size() ? -static_cast<int>(front.good) : 0;
}

size_t incomplete_tail(std::string_view text) {
  // A character has at most three bytes before its last.
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    if ((byte_at(text, text.size() - back) & 0xC0) == 0x80) continue;
    return character_length(text.substr(text.size() - back)) < 0 ? back : 0;
  }
  return 0;
}

int64_t append_valid(std::string_view text, std::string& out) {
  int64_t replaced = 0;
  while (!text.empty()) {
    size_t valid = ascii_length(text);
    while (valid < text.size()) {
      const int length = character_length(text.substr(valid));
      if (length <= 0) break;
      valid += static_cast<size_t>(length);
      valid += ascii_length(text.substr(valid));
    }
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out += kReplacement;
    ++replaced;
    text.remove_prefix(std::max<size_t>(1, measure(text).good));
  }
  return replaced;
}

}  // namespace sluice::utf8
