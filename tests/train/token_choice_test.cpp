#include "train/token_choice.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "core/random.h"
#include "support/catch.h"

using namespace sluice;

namespace {

// Shares of the tokens among `draws` evenly spread uniforms: exact to 1 / draws.
std::map<int32_t, double> shares(const std::vector<double>& logits, const ChoiceOptions& options,
                                 int draws = 20000) {
  std::map<int32_t, double> result;
  for (int i = 0; i < draws; ++i) result[choose_token(logits, options, (i + 0.5) / draws)] += 1.0 / draws;
  return result;
}

std::vector<double> logits_of(std::vector<double> probabilities) {
  for (double& p : probabilities) p = std::log(p) + 3.0;
  return probabilities;
}

}  // namespace

TEST_CASE("temperature 0 and top-k 1 take the most probable token, the lower id of equals") {
  const std::vector<double> logits{0.5, 2.0, -1.0, 2.0};
  for (const double uniform : {0.0, 0.5, 0.999999}) {
    CHECK(choose_token(logits, {.temperature = 0}, uniform) == 1);
    CHECK(choose_token(logits, {.top_k = 1}, uniform) == 1);
    CHECK(choose_token(logits, {.top_p = 1e-9}, uniform) == 1);
  }
}

TEST_CASE("tokens are drawn by their probability") {
  const auto logits = logits_of({0.1, 0.4, 0.2, 0.3});
  const auto plain = shares(logits, {});
  CHECK(plain.at(0) == Approx(0.1).margin(2e-4));
  CHECK(plain.at(1) == Approx(0.4).margin(2e-4));
  CHECK(plain.at(2) == Approx(0.2).margin(2e-4));
  CHECK(plain.at(3) == Approx(0.3).margin(2e-4));
  const auto cool = shares(logits, {.temperature = 0.5});  // squares, renormalised
  CHECK(cool.at(1) == Approx(0.16 / 0.30).margin(2e-4));
  const auto two = shares(logits, {.top_k = 2});
  REQUIRE(two.size() == 2);
  CHECK(two.at(1) == Approx(4.0 / 7).margin(2e-4));
  CHECK(two.at(3) == Approx(3.0 / 7).margin(2e-4));
}

TEST_CASE("top-p keeps the smallest set that reaches it") {
  const auto logits = logits_of({0.1, 0.4, 0.2, 0.3});
  CHECK(shares(logits, {.top_p = 0.39}).size() == 1);
  CHECK(shares(logits, {.top_p = 0.41}).size() == 2);
  CHECK(shares(logits, {.top_p = 0.69}).size() == 2);
  const auto three = shares(logits, {.top_p = 0.71});
  REQUIRE(three.size() == 3);
  CHECK(three.count(0) == 0);
  CHECK(three.at(2) == Approx(2.0 / 9).margin(2e-4));
  // Of what top-k leaves (4/7 and 3/7), 0.57 is reached by one.
  CHECK(shares(logits, {.top_k = 2, .top_p = 0.57}).size() == 1);
  CHECK(shares(logits, {.top_k = 2, .top_p = 0.58}).size() == 2);
}

TEST_CASE("the nucleus is found beyond the first sorted portion") {
  const int vocabulary = 900;
  std::vector<double> logits(vocabulary);
  const Philox random(1);
  for (int i = 0; i < vocabulary; ++i) logits[i] = 0.1 * random.normal(static_cast<uint64_t>(i));
  // By full sorting: the ids of the nucleus.
  std::vector<int32_t> ids(vocabulary);
  for (int i = 0; i < vocabulary; ++i) ids[i] = i;
  std::sort(ids.begin(), ids.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  double total = 0, sum = 0;
  for (const double logit : logits) total += std::exp(logit);
  std::set<int32_t> expected;
  for (const int32_t id : ids) {
    if (sum >= 0.3 * total) break;
    sum += std::exp(logits[id]);
    expected.insert(id);
  }
  REQUIRE(expected.size() > 100);
  std::set<int32_t> found;
  for (const auto& [id, share] : shares(logits, {.top_p = 0.3}, 5000)) found.insert(id);
  CHECK(found == expected);
}

TEST_CASE("impossible tokens are never drawn") {
  const std::vector<double> logits{-INFINITY, 1.0, -INFINITY, 1.0, -INFINITY};
  const auto drawn = shares(logits, {}, 1000);
  CHECK(drawn.size() == 2);
  CHECK(choose_token(logits, {}, std::nextafter(1.0, 0.0)) == 3);
}

TEST_CASE("logits that are no numbers and options out of range are errors") {
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    CHECK_THROWS_WITH(choose_token(std::vector<double>{0.0, bad}, {}, 0.5),
                      test::contains("logit of token 1"));
  }
  CHECK_THROWS_WITH(choose_token(std::vector<double>{-INFINITY}, {}, 0.5), test::contains("no token"));
  CHECK_THROWS_WITH((ChoiceOptions{.temperature = -1}).check(), test::contains("temperature -1"));
  CHECK_THROWS_WITH((ChoiceOptions{.top_k = -1}).check(), test::contains("top-k -1"));
  CHECK_THROWS_WITH((ChoiceOptions{.top_p = 0}).check(), test::contains("top-p 0"));
  CHECK_THROWS_WITH((ChoiceOptions{.top_p = 1.5}).check(), test::contains("top-p 1.5"));
}
