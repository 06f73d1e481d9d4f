#include "train/bigram_baseline.h"

#include <cmath>

#include "core/error.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"

using namespace sluice;

TEST_CASE("bigram baseline by hand") {
  // Pairs 01 01 10 10 02: D2 = 1 / (1 + 2 * 2) = 0.2. Each token has one predecessor, so D1 = 1/2, N(., .) =
  // 3, U = 3, and q(w) = (1 - 1/2) / 3 + 1/2 * 3/3 * 1/3 = 1/3.
  BigramBaseline baseline(3);
  baseline.add(std::vector<int32_t>{0, 1, 0});
  baseline.add(std::vector<int32_t>{1, 0, 2});
  baseline.finish();
  CHECK(baseline.pairs() == 5);
  CHECK(baseline.distinct_pairs() == 3);
  CHECK(baseline.probability(0, 1) == Approx(1.8 / 3 + 0.2 * 2 / 3 / 3));
  CHECK(baseline.probability(0, 2) == Approx(0.8 / 3 + 0.2 * 2 / 3 / 3));
  CHECK(baseline.probability(0, 0) == Approx(0.2 * 2 / 3 / 3));
  CHECK(baseline.probability(1, 0) == Approx(1.8 / 2 + 0.2 * 1 / 2 / 3));
  CHECK(baseline.probability(2, 1) == Approx(1.0 / 3));  // 2 was never followed

  const test::TemporaryDirectory directory;
  const TokenStream stream = test::token_stream(directory / "tokens.bin", {0, 1, 0, 2, 1});
  CHECK(baseline.loss_sum(stream, 2) ==
        Approx(-std::log(baseline.probability(0, 1)) - std::log(baseline.probability(1, 0))));
  CHECK(baseline.loss_sum(stream, 4) ==
        Approx(baseline.loss_sum(stream, 2) - std::log(baseline.probability(0, 2)) - std::log(1.0 / 3)));
}

TEST_CASE("bigram probabilities of every context sum to one") {
  BigramBaseline baseline(61);
  auto tokens = test::random_tokens(700, 50, 3);  // 50, ..., 60 are never seen
  for (size_t i = 0; i + 1 < tokens.size(); i += 3) tokens[i + 1] = tokens[i] / 2;
  baseline.add(tokens);
  baseline.finish();
  for (int32_t previous = 0; previous < 61; ++previous) {
    double sum = 0;
    for (int32_t token = 0; token < 61; ++token) {
      const double p = baseline.probability(previous, token);
      REQUIRE(p > 0);
      sum += p;
    }
    CAPTURE(previous);
    CHECK(sum == Approx(1.0).epsilon(1e-12));
  }
}

TEST_CASE("bigram counts do not depend on how they were buffered") {
  const test::TemporaryDirectory directory;
  const auto tokens = test::random_tokens(2000, 20, 3);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  const BigramBaseline whole = count_bigrams(stream, 20);
  BigramBaseline merged(20, 7);
  merged.add(tokens);
  merged.finish();
  CHECK(merged.pairs() == 1999);
  CHECK(merged.distinct_pairs() == whole.distinct_pairs());
  CHECK(merged.loss_sum(stream, 1999) == whole.loss_sum(stream, 1999));
}

TEST_CASE("bigram baseline: errors") {
  BigramBaseline baseline(5);
  CHECK_THROWS_WITH(baseline.add(std::vector<int32_t>{1, 5}), test::contains("token 5"));
  BigramBaseline empty(5);
  empty.add(std::vector<int32_t>{1});
  CHECK_THROWS_WITH(empty.finish(), test::contains("at least two"));
}
