#include "data/mix.h"

#include <cmath>
#include <limits>

#include "data/token_files.h"
#include "support/catch.h"

using namespace sluice;

namespace {

std::vector<std::string> names(size_t count) {
  std::vector<std::string> result;
  for (size_t i = 0; i < count; ++i) result.push_back("source" + std::to_string(i));
  return result;
}

Mix mix_of(const std::vector<double>& weights) { return Mix(weights, names(weights.size())); }

}  // namespace

TEST_CASE("a mix is within one sample of its weights after any number of samples") {
  for (const std::vector<double>& weights : {std::vector<double>{1.0},
                                             {3.0, 1.0},
                                             {0.7, 0.2, 0.1},
                                             {0.5, 0.25, 0.125, 0.125},
                                             {1, 1, 1, 1, 1, 1, 1},
                                             {100, 1},
                                             {1.0 / 3, 2.0 / 3},
                                             {5, 1, 1},
                                             {std::sqrt(2.0), 1.0, M_PI}}) {
    const Mix mix = mix_of(weights);
    double total = 0;
    for (const double weight : weights) total += weight;
    std::vector<int64_t> seen(weights.size(), 0);
    double worst = 0;
    for (int64_t i = 0; i < 3 * mix.period() && i < 40000; ++i) {
      const Mix::Place place = mix.place(i);
      REQUIRE(place.index == seen[static_cast<size_t>(place.source)]++);
      for (size_t s = 0; s < weights.size(); ++s) {
        // Shares that had to be rounded drift by less than a slot a period.
        const double share =
            static_cast<double>(mix.slots(static_cast<int64_t>(s))) / static_cast<double>(mix.period());
        REQUIRE(std::abs(share - weights[s] / total) <= 1.0 / Mix::kMaximumPeriod);
        worst = std::max(worst, std::abs(static_cast<double>(seen[s]) - share * static_cast<double>(i + 1)));
      }
    }
    CHECK(worst < 1.0);
  }
}

TEST_CASE("shares that are simple fractions are exact") {
  CHECK(mix_of({3, 1}).period() == 4);
  CHECK(mix_of({0.7, 0.2, 0.1}).period() == 10);
  CHECK(mix_of({0.3, 0.3, 0.4}).slots(2) == 4);
  CHECK(mix_of({42}).period() == 1);
  CHECK(mix_of({std::sqrt(2.0), 1.0}).period() == Mix::kMaximumPeriod);
}

TEST_CASE("places far out keep counting") {
  const Mix mix = mix_of({3, 1});
  const int64_t far = int64_t{1} << 50;
  CHECK(mix.place(far).index + mix.place(far + 1).index + mix.place(far + 2).index +
            mix.place(far + 3).index ==
        3 * (3 * (far / 4)) + 3 + far / 4);
}

TEST_CASE("weights that are no share are refused by name") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double weight : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()}) {
    CHECK_THAT(test::error_of([&] { mix_of({1.0, weight}); }), test::contains("2 source1: weight"));
  }
  CHECK_THAT(test::error_of([] { mix_of({1.0, 1e-6}); }), test::contains("2 source1: weight 1e-06"));
}
