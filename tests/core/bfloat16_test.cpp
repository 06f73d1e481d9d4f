#include "core/bfloat16.h"

#include <cmath>
#include <limits>

#include "support/catch.h"

using namespace sluice;

TEST_CASE("bfloat16 rounds to nearest, ties to even") {
  CHECK(to_bfloat16(1.0f).bits == 0x3f80);
  CHECK(to_bfloat16(-2.0f).bits == 0xc000);
  CHECK(to_bfloat16(1.0f + 0x1p-8f).bits == 0x3f80);             // tie, to even
  CHECK(to_bfloat16(1.0f + 3 * 0x1p-8f).bits == 0x3f82);         // tie, to even
  CHECK(to_bfloat16(1.0f + 0x1p-8f + 0x1p-20f).bits == 0x3f81);  // above the tie
}

TEST_CASE("bfloat16 keeps NaN and infinity apart") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(to_float(to_bfloat16(infinity)) == infinity);
  CHECK(to_float(to_bfloat16(-infinity)) == -infinity);
  CHECK(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isinf(to_float(to_bfloat16(std::numeric_limits<float>::max()))));
}

TEST_CASE("every bfloat16 survives the way through float") {
  int differing = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const bfloat16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    differing += to_bfloat16(to_float(value)).bits != value.bits;
  }
  CHECK(differing == 0);
}
