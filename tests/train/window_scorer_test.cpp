#include "train/window_scorer.h"

#include <cmath>
#include <map>

#include "core/error.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"

using namespace sluice;

TEST_CASE("windows need their tokens and one label more") {
  CHECK(window_count(1001, 100) == 10);
  CHECK(window_count(1000, 100) == 9);
  CHECK(window_count(101, 100) == 1);
  CHECK(window_count(100, 100) == 0);
  CHECK(window_count(2, 1) == 1);
  CHECK(window_count(0, 7) == 0);
}

TEST_CASE("losses by segments of carried state are those of one forward pass") {
  const test::TemporaryDirectory directory;
  const int64_t length = 96, rows = 3, first = 1;
  const auto tokens = test::random_tokens((first + rows) * length + 1, 61, 5);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  for (const char* json : {test::kTinyGla, test::kTinyGlaWithConvolution, test::kTinyTransformer,
                           test::kTinyWindowed, test::kTinyHybrid}) {
    const auto model = test::tiny_model(json, DType::kF64);
    for (const int64_t segment : {7, 32, 95, 96, 1000}) {
      CAPTURE(json, segment);
      std::map<int64_t, std::vector<double>> found;
      score_windows(*model, stream, length, first, rows, segment,
                    [&](int64_t row, int64_t position, std::span<const double> losses) {
                      REQUIRE(position == static_cast<int64_t>(found[row].size()));
                      found[row].insert(found[row].end(), losses.begin(), losses.end());
                    });
      REQUIRE(found.size() == rows);
      for (int64_t row = 0; row < rows; ++row) {
        const auto begin = tokens.begin() + (first + row) * length;
        const auto expected = test::losses_by_definition(*model, {begin, begin + length + 1});
        REQUIRE(found[row].size() == expected.size());
        double worst = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          worst = std::max(worst, std::abs(found[row][i] - expected[i]));
        }
        CHECK(worst < 1e-10);
      }
    }
  }
}

TEST_CASE("a loss that is not finite is an error with its place") {
  const test::TemporaryDirectory directory;
  const auto tokens = test::random_tokens(21, 61, 5);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64);
  // Token 12 enters window 1 at position 2, and every loss from there on is lost.
  const Tensor& embedding = model->parameters()[0]->variable().value();
  embedding.narrow(0, tokens[12], 1).data<double>()[0] = std::nan("");
  for (int i = 0; i < 12; ++i) REQUIRE(tokens[i] != tokens[12]);
  try {
    score_windows(*model, stream, 10, 0, 2, 10, [](int64_t, int64_t, std::span<const double>) {});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 17);
    CHECK_THAT(error.what(), test::contains("position 2 of window 1"));
  }
}

TEST_CASE("validation is the mean over windows, however many fit into a batch") {
  const test::TemporaryDirectory directory;
  const int64_t length = 4000;  // two windows a batch
  const auto tokens = test::random_tokens(3 * length + 7, 61, 6);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64);
  double sum = 0;
  for (int64_t window = 1; window < 3; ++window) {
    const auto begin = tokens.begin() + window * length;
    for (const double loss : test::losses_by_definition(*model, {begin, begin + length + 1})) sum += loss;
  }
  const ValidationResult some = validate(*model, stream, length, 2, 1);
  CHECK(some.tokens == 2 * length);
  CHECK(some.loss == Approx(sum / static_cast<double>(2 * length)).epsilon(1e-12));
  CHECK(validate(*model, stream, length, 1000).tokens == 3 * length);
  CHECK(validate(*model, stream, length, 2, 1).loss == some.loss);
  CHECK(validate(*model, stream, length, 3, 3).tokens == 0);
  try {
    validate(*model, stream, 100000, 1);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 3);
    CHECK_THAT(error.what(), test::contains("12007 tokens") && test::contains("100001"));
  }
}
