#include "train/evaluation.h"

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"

using namespace sluice;

namespace {

std::vector<std::pair<int64_t, int64_t>> ranges(const std::vector<PositionBucket>& buckets) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (const PositionBucket& bucket : buckets) result.emplace_back(bucket.begin, bucket.end);
  return result;
}

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

}  // namespace

TEST_CASE("position buckets") {
  CHECK(ranges(make_buckets(1024, {})) == Ranges{{0, 128}, {128, 256}, {256, 512}, {512, 1024}});
  CHECK(ranges(make_buckets(1000, {})) == Ranges{{0, 128}, {128, 256}, {256, 512}, {512, 1000}});
  CHECK(ranges(make_buckets(128, {})) == Ranges{{0, 128}});
  CHECK(ranges(make_buckets(1, {})) == Ranges{{0, 1}});
  CHECK(ranges(make_buckets(100, {10, 40, 100, 200})) == Ranges{{0, 10}, {10, 40}, {40, 100}});
}

TEST_CASE("an evaluation adds up the losses of its windows") {
  const test::TemporaryDirectory directory;
  const int64_t length = 300;
  const auto tokens = test::random_tokens(5 * length + 200, 61, 5);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64);
  std::vector<std::vector<double>> losses;
  for (int64_t window = 0; window < 5; ++window) {
    const auto begin = tokens.begin() + window * length;
    losses.push_back(test::losses_by_definition(*model, {begin, begin + length + 1}));
  }
  EvaluationOptions options;
  options.segment = GENERATE(64, 300, 2048);
  options.batch_tokens = GENERATE(1, 700);
  CAPTURE(options.segment, options.batch_tokens);
  int64_t last_done = 0, calls = 0;
  const LengthResult result =
      evaluate_length(*model, stream, length, options, [&](int64_t done, int64_t total, double mean) {
        CHECK(done > last_done);
        CHECK(total == 5 * length);
        CHECK(std::isfinite(mean));
        last_done = done;
        ++calls;
      });
  CHECK(last_done == 5 * length);
  CHECK(calls >= 2);
  CHECK(result.windows == 5);
  CHECK(result.tokens == 5 * length);
  CHECK(result.segment == std::min<int64_t>(options.segment, length));

  double sum = 0, late = 0, squares = 0;
  std::vector<double> of_bucket(3, 0.0);
  for (const auto& window : losses) {
    for (int64_t i = 0; i < length; ++i) {
      sum += window[i];
      if (i >= 150) late += window[i];
      of_bucket[i < 128 ? 0 : i < 256 ? 1 : 2] += window[i];
    }
  }
  const double mean = sum / static_cast<double>(5 * length);
  for (const auto& window : losses) {
    double of_window = 0;
    for (const double loss : window) of_window += loss / static_cast<double>(length);
    squares += (of_window - mean) * (of_window - mean);
  }
  CHECK(result.loss_sum == Approx(sum).epsilon(1e-12));
  CHECK(result.perplexity() == Approx(std::exp(mean)).epsilon(1e-12));
  CHECK(result.second_half.tokens == 5 * 150);
  CHECK(result.second_half.loss_sum == Approx(late).epsilon(1e-12));
  REQUIRE(result.standard_error);
  CHECK(*result.standard_error == Approx(std::sqrt(squares / 4 / 5)).epsilon(1e-9));
  REQUIRE(result.buckets.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(result.buckets[i].tokens == 5 * (result.buckets[i].end - result.buckets[i].begin));
    CHECK(result.buckets[i].loss_sum == Approx(of_bucket[i]).epsilon(1e-12));
  }
}

TEST_CASE("only the first tokens are scored where that is asked for, at least one window") {
  const test::TemporaryDirectory directory;
  const TokenStream stream = test::token_stream(directory / "tokens.bin", test::random_tokens(1001, 61, 5));
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  EvaluationOptions options;
  options.max_tokens = 399;
  CHECK(evaluate_length(*model, stream, 100, options).windows == 3);
  const LengthResult one = evaluate_length(*model, stream, 500, options);
  CHECK(one.windows == 1);
  CHECK(!one.standard_error);
  options.max_tokens = 1000000;
  CHECK(evaluate_length(*model, stream, 100, options).windows == 10);
}

TEST_CASE("a model that knows nothing has the vocabulary's size as perplexity") {
  const test::TemporaryDirectory directory;
  const auto tokens = test::random_tokens(513, 61, 5);
  const TokenStream stream = test::token_stream(directory / "tokens.bin", tokens);
  const auto model = test::tiny_model(test::kTinyTransformer, DType::kF32);
  for (const nn::Parameter* parameter : model->parameters()) {
    if (parameter->name() == "lm_head.weight") parameter->variable().value().fill_zero();
  }
  LengthResult result = evaluate_length(*model, stream, 256, {});
  CHECK(result.perplexity() == Approx(61).epsilon(1e-6));
  for (const PositionBucket& bucket : result.buckets) CHECK(bucket.perplexity() == Approx(61).epsilon(1e-6));
  CHECK(!result.bits_per_byte());
  result.bytes = 2 * result.tokens;
  CHECK(*result.bits_per_byte() == Approx(std::log2(61.0) / 2).epsilon(1e-6));
}

TEST_CASE("a gated linear attention model needs the same memory at any length") {
  const test::TemporaryDirectory directory;
  const TokenStream stream = test::token_stream(directory / "tokens.bin", test::random_tokens(65537, 61, 5));
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  EvaluationOptions options;
  options.segment = 512;
  options.batch_tokens = 512;
  options.max_tokens = 1;
  const LengthResult shorter = evaluate_length(*model, stream, 1024, options);
  const LengthResult longer = evaluate_length(*model, stream, 65536, options);
  CHECK(model->has_constant_state());
  CHECK(shorter.state_bytes > 0);
  CHECK(longer.state_bytes == shorter.state_bytes);
  CHECK(longer.peak_bytes == shorter.peak_bytes);
}

TEST_CASE("what cannot be evaluated is refused before anything runs") {
  const auto gla = test::tiny_model(test::kTinyGla, DType::kF32);
  const auto transformer = test::tiny_model(test::kTinyTransformer, DType::kF32);
  const auto windowed = test::tiny_model(test::kTinyWindowed, DType::kF32);
  EvaluationOptions options;
  const auto refusal = [&](const LanguageModel& model, std::vector<int64_t> lengths, int exit_code) {
    try {
      check_evaluation(model, 100000, lengths, options);
    } catch (const Error& error) {
      CHECK(error.exit_code() == exit_code);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(refusal(*gla, {2048, 99999}, 0) == "accepted");
  CHECK_THAT(refusal(*gla, {2048, 100000}, 3),
             test::contains("length 100000") && test::contains("100000 tokens") && test::contains("100001"));
  CHECK_THAT(refusal(*gla, {0}, 2), test::contains("length 0"));
  CHECK_THAT(refusal(*gla, {}, 2), test::contains("no length"));

  CHECK(refusal(*transformer, {1024}, 0) == "accepted");
  // Two layers of 16 keys and 16 values in f32 a token: 256 bytes each.
  CHECK_THAT(refusal(*transformer, {1024, 2048}, 2), test::contains("length 2048") &&
                                                         test::contains("512.0 KiB") &&
                                                         test::contains("16 x max_position_embeddings 64") &&
                                                         test::contains("--allow-growing-state"));
  CHECK(refusal(*windowed, {2048}, 0) == "accepted");
  options.allow_growing_state = true;
  CHECK(refusal(*transformer, {2048}, 0) == "accepted");

  options.bucket_edges = {10, 10};
  CHECK_THAT(refusal(*gla, {64}, 2), test::contains("bucket edge 10 after 10"));
  options.bucket_edges = {0, 10};
  CHECK_THAT(refusal(*gla, {64}, 2), test::contains("bucket edge 0"));
  options = {};
  options.segment = 0;
  CHECK_THAT(refusal(*gla, {64}, 2), test::contains("segment of 0"));
}

TEST_CASE("values of scored tokens leave out the first token") {
  const test::TemporaryDirectory directory;
  const TokenStream stream = test::token_stream(directory / "tokens.bin", {2, 0, 1, 1, 2});
  CHECK(sum_over_scored(stream, 3, {1, 10, 100}) == 21);
  CHECK(sum_over_scored(stream, 4, {1, 10, 100}) == 121);
  CHECK(sum_over_scored(stream, 0, {1, 10, 100}) == 0);
  CHECK_THROWS_WITH(sum_over_scored(stream, 4, {1, 10}), test::contains("token 2"));
}
