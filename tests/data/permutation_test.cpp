#include "data/permutation.h"

#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("a permutation is a bijection of every small range") {
  for (int64_t n = 1; n <= 300; ++n) {
    for (uint64_t epoch = 0; epoch < 3; ++epoch) {
      const Permutation permutation(n, 7, epoch);
      std::vector<int> seen(static_cast<size_t>(n), 0);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t image = permutation(i);
        REQUIRE(image >= 0);
        REQUIRE(image < n);
        REQUIRE(++seen[static_cast<size_t>(image)] == 1);
        REQUIRE(permutation.inverse(image) == i);
      }
    }
  }
}

TEST_CASE("a permutation of a huge range can be undone at every sampled index") {
  const Philox random(3);
  for (const int64_t n : {(int64_t{1} << 31) - 1, (int64_t{1} << 31) + 1, int64_t{1} << 40,
                          int64_t{999'999'999'989}, std::numeric_limits<int64_t>::max()}) {
    const Permutation permutation(n, 11, 5);
    for (uint64_t i = 0; i < 2000; ++i) {
      const auto index = static_cast<int64_t>(random.bits64(i) % static_cast<uint64_t>(n));
      const int64_t image = permutation(index);
      REQUIRE((image >= 0 && image < n));
      REQUIRE(permutation.inverse(image) == index);
    }
    REQUIRE(permutation.inverse(permutation(n - 1)) == n - 1);
    REQUIRE(permutation.inverse(permutation(0)) == 0);
  }
}

TEST_CASE("seeds and epochs give unrelated orders") {
  const int64_t n = 10000;
  const Permutation first(n, 1, 0), next_epoch(n, 1, 1), other_seed(n, 2, 0);
  int64_t same_epoch = 0, same_seed = 0, fixed = 0, neighbours = 0;
  for (int64_t i = 0; i < n; ++i) {
    fixed += first(i) == i;
    same_epoch += first(i) == next_epoch(i);
    same_seed += first(i) == other_seed(i);
    neighbours += i > 0 && first(i) == first(i - 1) + 1;
  }
  // Each count is Poisson with mean 1 for random permutations.
  CHECK(fixed < 10);
  CHECK(same_epoch < 10);
  CHECK(same_seed < 10);
  CHECK(neighbours < 10);
}

TEST_CASE("a permutation spreads: every tenth of the indices reaches every tenth of the images evenly") {
  const int64_t n = 100000;
  const Permutation permutation(n, 5, 0);
  std::vector<int64_t> cells(100, 0);
  for (int64_t i = 0; i < n; ++i) ++cells[static_cast<size_t>(i * 10 / n * 10 + permutation(i) * 10 / n)];
  double chi_square = 0;
  for (const int64_t count : cells) chi_square += std::pow(static_cast<double>(count) - 1000.0, 2) / 1000.0;
  // 81 degrees of freedom: mean 81, standard deviation 12.7.
  CHECK(chi_square < 81 + 6 * 12.7);
}

TEST_CASE("an index outside the range is refused") {
  const Permutation permutation(10, 0, 0);
  CHECK_THROWS_AS(permutation(10), Error);
  CHECK_THROWS_AS(permutation(-1), Error);
  CHECK_THROWS_AS(permutation.inverse(10), Error);
  CHECK_THROWS_AS(Permutation(0, 0, 0), Error);
}
