#include "core/random.h"

#include <cmath>

#include "support/catch.h"

using namespace sluice;

TEST_CASE("Philox4x32-10 gives the words of the paper's test vectors") {
  // Counter and key all zero; counter and key all ones (Random123, kat_vectors).
  CHECK(Philox(0).block(0) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(Philox(~0ull, ~0ull).block(~0ull) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("normal numbers have mean 0, variance 1 and are finite") {
  const Philox random(7, 3);
  double sum = 0, squares = 0;
  const int count = 200000;
  for (int i = 0; i < count; ++i) {
    const double value = random.normal(i);
    REQUIRE(std::isfinite(value));
    sum += value;
    squares += value * value;
  }
  CHECK(std::abs(sum / count) < 0.01);
  CHECK(std::abs(squares / count - 1.0) < 0.01);
}

TEST_CASE("streams and seeds differ, the same call repeats") {
  CHECK(Philox(1, 0).bits64(5) != Philox(1, 1).bits64(5));
  CHECK(Philox(1, 0).bits64(5) != Philox(2, 0).bits64(5));
  CHECK(Philox(1, 0).bits64(5) == Philox(1, 0).bits64(5));
  CHECK(Philox(1, 0).uniform(5) < 1.0);
}
