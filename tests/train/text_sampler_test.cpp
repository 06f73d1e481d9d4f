#include "train/text_sampler.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "support/catch.h"
#include "tiny_model.h"
#include "train/decoder.h"

using namespace sluice;

namespace {

std::vector<int32_t> sampled(const LanguageModel& model, const SamplingOptions& options,
                             const std::vector<int32_t>& prompt, SamplingStatistics* statistics = nullptr) {
  std::vector<int32_t> tokens;
  const auto result =
      TextSampler(model, options).generate(prompt, [&](int32_t token) { tokens.push_back(token); });
  CHECK(result.tokens == static_cast<int64_t>(tokens.size()));
  if (statistics != nullptr) *statistics = result;
  return tokens;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

}  // namespace

TEST_CASE("single steps, a prompt in segments and one forward pass give the same logits") {
  const auto [json, length] = GENERATE(table<const char*, int64_t>({{test::kTinyGla, 2000},
                                                                    {test::kTinyTransformer, 2000},
                                                                    {test::kTinyGlaWithConvolution, 300},
                                                                    {test::kTinyWindowed, 300},
                                                                    {test::kTinyHybrid, 300}}));
  const auto tokens = test::random_tokens(length, 61, 8);
  for (const auto& [dtype, tolerance] : {std::pair{DType::kF32, 1e-5}, {DType::kF64, 1e-13}}) {
    CAPTURE(json, name_of(dtype));
    const auto model = test::tiny_model(json, dtype);
    const auto whole = test::logits_of(*model, tokens);
    double largest = 0;
    for (const auto& row : whole) {
      for (const double logit : row) largest = std::max(largest, std::abs(logit));
    }
    REQUIRE(largest > 1);
    Decoder stepped(*model, 1), prefilled(*model, 1);
    double of_steps = 0, of_segments = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto logits = stepped.advance(std::span(&tokens[i], 1), 1);
      of_steps = std::max(of_steps, largest_difference(logits, whole[i]));
    }
    for (int64_t i = 0; i < length; i += 100) {
      const auto logits = prefilled.advance(std::span(tokens).subspan(i, 100), 37);
      of_segments = std::max(of_segments, largest_difference(logits, whole[i + 99]));
    }
    CHECK(of_steps < tolerance * largest);
    CHECK(of_segments < tolerance * largest);
  }
}

TEST_CASE("greedy text is the argmax of a full forward pass, token by token") {
  for (const char* json : {test::kTinyGla, test::kTinyTransformer}) {
    CAPTURE(json);
    const auto model = test::tiny_model(json, DType::kF64);
    std::vector<int32_t> text = test::random_tokens(20, 61, 8);
    SamplingOptions options;
    options.choice.temperature = 0;
    options.max_tokens = 50;
    options.prefill_segment = 7;
    const auto tokens = sampled(*model, options, text);
    REQUIRE(tokens.size() == 50);
    for (const int32_t token : tokens) {
      const auto logits = test::logits_of(*model, text).back();
      REQUIRE(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
      text.push_back(token);
    }
    options.choice = {.temperature = 5.0, .top_k = 1};
    CHECK(sampled(*model, options, test::random_tokens(20, 61, 8)) == tokens);
  }
}

TEST_CASE("a text is a function of prompt, options and seed") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  SamplingOptions options;
  options.max_tokens = 40;
  options.seed = 3;
  const auto tokens = sampled(*model, options, {5, 6});
  CHECK(sampled(*model, options, {5, 6}) == tokens);
  CHECK(sampled(*model, options, {5, 7}) != tokens);
  // A shorter text is the longer one's beginning.
  options.max_tokens = 10;
  CHECK(sampled(*model, options, {5, 6}) == std::vector(tokens.begin(), tokens.begin() + 10));
  options.max_tokens = 40;
  options.seed = 4;
  CHECK(sampled(*model, options, {5, 6}) != tokens);
  options.seed = 3;
  options.stream = 1;
  CHECK(sampled(*model, options, {5, 6}) != tokens);
}

TEST_CASE("a text ends before its stop token, or after max_tokens") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  SamplingOptions options;
  options.max_tokens = 30;
  SamplingStatistics statistics;
  const auto tokens = sampled(*model, options, {5}, &statistics);
  CHECK(tokens.size() == 30);
  CHECK(!statistics.stopped);
  CHECK(statistics.prompt_tokens == 1);
  options.stop_token = tokens[12];
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[12]);
  CHECK(sampled(*model, options, {5}, &statistics) == std::vector(tokens.begin(), first));
  CHECK(statistics.stopped);
  options = {};
  options.max_tokens = 0;
  CHECK(sampled(*model, options, {5}).empty());
}

TEST_CASE("the state of a text does not grow, unless softmax attention keeps it all") {
  SamplingOptions options;
  const auto state_after = [&](const char* json, int64_t tokens) {
    SamplingStatistics statistics;
    options.max_tokens = tokens;
    sampled(*test::tiny_model(json, DType::kF32), options, {5}, &statistics);
    return statistics.state_bytes;
  };
  CHECK(state_after(test::kTinyGla, 10) == state_after(test::kTinyGla, 400));
  CHECK(state_after(test::kTinyTransformer, 10) < state_after(test::kTinyTransformer, 400));
}

TEST_CASE("an empty prompt begins a document") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  SamplingOptions options;
  options.max_tokens = 20;
  REQUIRE(model->config().bos_token_id == 1);
  CHECK(sampled(*model, options, {}) == sampled(*model, options, {1}));

  const auto headless =
      test::tiny_model(R"({"model_type": "gla", "num_heads": 2, "bos_token_id": null})", DType::kF32);
  CHECK_THROWS_WITH(sampled(*headless, options, {}), test::contains("bos_token_id"));
}

TEST_CASE("prompts and options outside the vocabulary are refused") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  SamplingOptions options;
  CHECK_THROWS_WITH(sampled(*model, options, {3, 61}), test::contains("prompt token 61"));
  CHECK_THROWS_WITH(sampled(*model, options, {-1}), test::contains("prompt token -1"));
  options.stop_token = 61;
  CHECK_THROWS_WITH(TextSampler(*model, options), test::contains("stop token 61"));
  options = {};
  options.max_tokens = -1;
  CHECK_THROWS_WITH(TextSampler(*model, options), test::contains("-1 tokens"));
}

TEST_CASE("texts side by side are the texts alone") {
  for (const char* json : {test::kTinyGlaWithConvolution, test::kTinyTransformer}) {
    CAPTURE(json);
    const auto model = test::tiny_model(json, DType::kF64);
    SamplingOptions options;
    options.max_tokens = 30;
    options.seed = 5;
    options.stop_token = 9;
    const std::vector<int32_t> prompt = {3, 1, 4};
    std::vector<std::vector<int32_t>> together(4);
    const auto statistics =
        TextSampler(*model, options).generate_many(prompt, 4, [&](int64_t text, int32_t token) {
          together[static_cast<size_t>(text)].push_back(token);
        });
    int64_t tokens = 0;
    for (const auto& text : together) {
      CHECK(text == sampled(*model, options, prompt));
      tokens += static_cast<int64_t>(text.size());
      ++options.stream;
    }
    CHECK(statistics.tokens == tokens);
    CHECK(together[0] != together[1]);
  }
}
