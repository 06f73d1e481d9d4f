#include "train/task_text.h"

#include "support/catch.h"

using namespace sluice;

TEST_CASE("white space at the end is what Python strips") {
  CHECK(length_without_trailing_space("") == 0);
  CHECK(length_without_trailing_space("a b") == 3);
  CHECK(length_without_trailing_space("a b \t\n") == 3);
  CHECK(length_without_trailing_space(" \n ") == 0);
  CHECK(length_without_trailing_space("a\xC2\xA0\xE3\x80\x80\x1F") == 1);  // no-break, ideographic
  CHECK(length_without_trailing_space("a\xC3\xA0") == 3);                  // a letter that ends in 0xA0
  CHECK(length_without_trailing_space("a\xE2\x80\x8B") == 4);              // the zero width space is none
}

TEST_CASE("characters, not bytes") {
  CHECK(character_count("") == 0);
  CHECK(character_count("abc") == 3);
  CHECK(character_count("\xC3\xA9t\xC3\xA9") == 3);
  CHECK(character_count("\xF0\x9F\x98\x80\xE6\x97\xA5") == 2);
}

TEST_CASE("an answer is found anywhere, in either case") {
  const std::vector<std::string> answers = {"Paris", "the City of Light"};
  CHECK(contains_any("It is paris.", answers));
  CHECK(contains_any("THE CITY OF LIGHT", answers));
  CHECK(contains_any("Paris", answers));
  CHECK_FALSE(contains_any("Pari s", answers));
  CHECK_FALSE(contains_any("", answers));
  CHECK_FALSE(contains_any("[aris", std::vector<std::string>{"{aris"}));  // 0x20 apart and no letters
}
