#include "tensor/free_ranges.h"

#include <vector>

#include "core/random.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("the smallest stretch that fits is taken, and neighbours merge") {
  FreeRanges free;
  free.give(0, 100);
  free.give(200, 30);
  free.give(300, 50);
  CHECK(free.take(40) == 300);
  CHECK(free.take(30) == 200);
  CHECK(free.take(101) == std::nullopt);
  CHECK(free.free_before(350) == 10);
  CHECK(free.free_before(300) == 0);
  free.give(300, 40);
  CHECK(free.free_before(350) == 50);
  CHECK(free.contains(349));
  CHECK_FALSE(free.contains(350));
  CHECK_FALSE(free.contains(299));
  free.give(100, 100);  // joins the first stretch to nothing yet: 200 is taken
  CHECK(free.take(200) == 0);
  CHECK(free.total() == 50);
}

TEST_CASE("random use never hands out a byte twice, and everything comes back as one stretch") {
  constexpr int64_t kBytes = 4096;
  FreeRanges free;
  free.give(0, kBytes);
  const Philox random(3);
  std::vector<char> used(kBytes, 0);
  std::vector<std::pair<int64_t, int64_t>> held;
  int64_t refused = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const uint64_t bits = random.bits64(i);
    if (bits % 2 == 0 && !held.empty()) {
      std::swap(held[bits / 2 % held.size()], held.back());
      const auto [begin, size] = held.back();
      held.pop_back();
      std::fill_n(used.begin() + begin, size, 0);
      free.give(begin, size);
      continue;
    }
    const auto size = static_cast<int64_t>(1 + bits / 2 % 200);
    const auto begin = free.take(size);
    if (!begin) {
      ++refused;
      continue;
    }
    bool fresh = *begin >= 0 && *begin + size <= kBytes;
    for (int64_t at = *begin; fresh && at < *begin + size; ++at) fresh = used[static_cast<size_t>(at)] == 0;
    REQUIRE(fresh);
    std::fill_n(used.begin() + *begin, size, 1);
    held.emplace_back(*begin, size);
  }
  CHECK(refused > 0);
  for (const auto& [begin, size] : held) free.give(begin, size);
  CHECK(free.ranges() == std::map<int64_t, int64_t>{{0, kBytes}});
}
