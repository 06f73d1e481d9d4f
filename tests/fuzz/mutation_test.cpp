// Every fuzz target over a fixed series of broken files; libFuzzer goes further, see scripts/fuzz.
#include <fmt/core.h>

#include "core/error.h"
#include "mutate.h"
#include "support/catch.h"
#include "target.h"

using namespace sluice;

TEST_CASE("every reader takes its seeds, and any bytes without a mistake") {
  uint64_t stream = 0;
  for (const fuzz::Target& target : fuzz::targets()) {
    DYNAMIC_SECTION(target.name) {
      const auto seeds = target.seeds();
      for (const std::string& seed : seeds) CHECK(target.run(seed));
      CHECK(!target.run("\x01"));
      int refused = 0;
      for (int i = 0; i < target.mutations; ++i) {
        const std::string bytes = fuzz::mutated(seeds, stream, static_cast<uint64_t>(i));
        try {
          refused += target.run(bytes) ? 0 : 1;
        } catch (const std::exception& error) {
          FAIL("mutation " << i << ", " << bytes.size() << " bytes: " << error.what());
        }
      }
      // Otherwise the mutations do not reach what they are for.
      CHECK(refused > target.mutations / 20);
    }
    ++stream;
  }
}

TEST_CASE("fuzz targets by name") {
  CHECK(std::string(fuzz::find_target("json").name) == "json");
  CHECK_THROWS_WITH(fuzz::find_target("jsn"), test::contains("known are: safetensors, "));
}
