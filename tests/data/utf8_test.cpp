#include "data/utf8.h"

#include "support/catch.h"

using namespace sluice;

namespace {

std::string valid(std::string_view text, int64_t expected_replacements) {
  std::string out;
  CHECK(utf8::append_valid(text, out) == expected_replacements);
  return out;
}

}  // namespace

TEST_CASE("valid UTF-8 passes unchanged") {
  for (const std::string text :
       {"", "plain", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xF4\x8F\xBF\xBF", "eight bytes of ascii then \xC3\xA9 and eight more again"}) {
    CHECK(valid(text, 0) == text);
  }
  const std::string with_nul("a\0b", 3);
  CHECK(valid(with_nul, 0) == with_nul);
}

TEST_CASE("each maximal invalid part becomes one U+FFFD") {
  const std::string r = "\xEF\xBF\xBD";
  CHECK(valid("a\xFFz", 1) == "a" + r + "z");
  CHECK(valid("\x80\x80", 2) == r + r);
  CHECK(valid("\xC0\xAF", 2) == r + r);                  // overlong
  CHECK(valid("\xE0\x80\x80", 3) == r + r + r);          // overlong
  CHECK(valid("\xED\xA0\x80", 3) == r + r + r);          // surrogate
  CHECK(valid("\xF4\x90\x80\x80", 4) == r + r + r + r);  // above U+10FFFF
  CHECK(valid("\xE4\xB8z", 1) == r + "z");               // cut character: one part
  CHECK(valid("\xF0\x9F\x98", 1) == r);
  // The example of the Unicode standard's table on substitution of maximal subparts.
  CHECK(valid("a\xF1\x80\x80\xE1\x80\xC2"
              "b\x80"
              "c\x80\xBF"
              "d",
              6) == "a" + r + r + r + "b" + r + "c" + r + r + "d");
}

TEST_CASE("a character's beginning at the end is told from damage") {
  CHECK(utf8::incomplete_tail("") == 0);
  CHECK(utf8::incomplete_tail("abc") == 0);
  CHECK(utf8::incomplete_tail("a\xC3") == 1);
  CHECK(utf8::incomplete_tail("a\xE4\xB8") == 2);
  CHECK(utf8::incomplete_tail("a\xF0\x9F\x98") == 3);
  CHECK(utf8::incomplete_tail("a\xF0\x9F\x98\x80") == 0);
  CHECK(utf8::incomplete_tail("\x80\x80\x80\x80") == 0);
  CHECK(utf8::incomplete_tail("\xED\xA0") == 0);  // would be a surrogate
  CHECK(utf8::incomplete_tail("a\xFF") == 0);
}
