#include "core/progress.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("durations, counts and bytes for people") {
  CHECK(format_duration(12.4) == "12s");
  CHECK(format_duration(200) == "3m20s");
  CHECK(format_duration(3725) == "1h02m");
  CHECK(format_count(987) == "987");
  CHECK(format_count(12345) == "12.3K");
  CHECK(format_count(4560000) == "4.56M");
  CHECK(format_count(44.7e12) == "44.7T");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
}
