#include "train/task_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "support/catch.h"
#include "tiny_model.h"
#include "train/decoder.h"

using namespace sluice;

namespace {

using Tokens = std::vector<int32_t>;

int32_t argmax(const std::vector<double>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Of many lengths, one of them greedy by construction.
std::vector<ContinuationRequest> make_requests(const LanguageModel& model) {
  std::vector<ContinuationRequest> requests;
  for (int64_t i = 0; i < 13; ++i) {
    const Tokens tokens = test::random_tokens(3 + (i * 7) % 31 + i, 61, static_cast<uint64_t>(i + 1));
    const int64_t context = 1 + i % 5 % static_cast<int64_t>(tokens.size() - 1);
    requests.push_back(
        {{tokens.begin(), tokens.begin() + context}, {tokens.begin() + context, tokens.end()}, true});
  }
  Tokens text = test::random_tokens(9, 61, 77);
  ContinuationRequest greedy{text, {}, true};
  for (int i = 0; i < 4; ++i) {
    greedy.continuation.push_back(argmax(test::logits_of(model, text).back()));
    text.push_back(greedy.continuation.back());
  }
  requests.push_back(greedy);
  greedy.continuation[1] = (greedy.continuation[1] + 1) % 61;  // one token of four is another
  requests.push_back(greedy);
  return requests;
}

std::vector<ContinuationScore> by_definition(const LanguageModel& model,
                                             const std::vector<ContinuationRequest>& requests) {
  std::vector<ContinuationScore> scores;
  for (const ContinuationRequest& request : requests) {
    Tokens whole = request.context;
    whole.insert(whole.end(), request.continuation.begin(), request.continuation.end());
    const auto losses = test::losses_by_definition(model, whole);
    const auto logits = test::logits_of(model, whole);
    ContinuationScore score{0, true};
    for (size_t i = request.context.size() - 1; i + 1 < whole.size(); ++i) {
      score.log_likelihood -= losses[i];
      score.greedy = score.greedy && argmax(logits[i]) == whole[i + 1];
    }
    scores.push_back(score);
  }
  return scores;
}

}  // namespace

TEST_CASE("scores are those of one text alone, whatever the size of a batch") {
  for (const char* json : {test::kTinyGla, test::kTinyGlaWithConvolution, test::kTinyTransformer,
                           test::kTinyWindowed, test::kTinyHybrid}) {
    const auto model = test::tiny_model(json, DType::kF64);
    const auto requests = make_requests(*model);
    const auto expected = by_definition(*model, requests);
    REQUIRE(expected[requests.size() - 2].greedy);
    REQUIRE_FALSE(expected.back().greedy);
    int64_t all = 0;
    for (const auto& request : requests) {
      all += static_cast<int64_t>(request.context.size() + request.continuation.size());
    }
    for (const int64_t batch : {1, 5, 33, 64, 100000}) {  // from passes of one token to one pass for all
      CAPTURE(json, batch);
      int64_t tokens = 0;
      const auto scores = ModelScorer(*model, batch, 61).score(requests, [&](int64_t n) { tokens += n; });
      REQUIRE(scores.size() == expected.size());
      CHECK(tokens == all);
      for (size_t i = 0; i < scores.size(); ++i) {
        CAPTURE(i);
        CHECK(std::abs(scores[i].log_likelihood - expected[i].log_likelihood) < 1e-9);
        CHECK(scores[i].greedy == expected[i].greedy);
      }
    }
  }
}

TEST_CASE("the order of requests changes no bit of a score") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  auto requests = make_requests(*model);
  requests.push_back(requests.front());  // twice the same
  const ModelScorer scorer(*model, 50, 61);
  const auto scores = scorer.score(requests, [](int64_t) {});
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (int turn = 0; turn < 3; ++turn) {
    std::rotate(order.begin(), order.begin() + 5, order.end());
    std::reverse(order.begin(), order.begin() + 7);
    std::vector<ContinuationRequest> shuffled;
    for (const size_t index : order) shuffled.push_back(requests[index]);
    const auto found = scorer.score(shuffled, [](int64_t) {});
    for (size_t i = 0; i < order.size(); ++i) {
      CHECK(found[i].log_likelihood == scores[order[i]].log_likelihood);
      CHECK(found[i].greedy == scores[order[i]].greedy);
    }
  }
}

TEST_CASE("a log-likelihood that is not finite is an error, and so is a batch of nothing") {
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64);
  model->parameters()[0]->variable().value().narrow(0, 7, 1).data<double>()[0] = std::nan("");
  const std::vector<ContinuationRequest> requests = {{{1, 2}, {3}}, {{1, 7}, {3, 4}}};
  try {
    ModelScorer(*model, 100, 61).score(requests, [](int64_t) {});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 17);
    CHECK_THAT(error.what(), test::contains("2 tokens behind 2"));
  }
  CHECK_THROWS_WITH(ModelScorer(*model, 0, 61), test::contains("0 tokens a batch"));
}

TEST_CASE("answers side by side are the greedy continuations of each alone") {
  for (const char* json : {test::kTinyGla, test::kTinyGlaWithConvolution, test::kTinyTransformer,
                           test::kTinyWindowed, test::kTinyHybrid}) {
    const auto model = test::tiny_model(json, DType::kF64);
    const int64_t vocabulary = 50;  // the tokenizer's; the model knows 61
    std::vector<AnswerRequest> requests;
    for (int64_t i = 0; i < 7; ++i) {
      requests.push_back(
          {test::random_tokens(1 + (i * 11) % 40, 61, static_cast<uint64_t>(i + 20)), 1 + i * 3});
    }
    const auto ends = [](int32_t token) { return token % 10 == 3; };
    std::vector<Tokens> expected;
    size_t ended = 0, padded = 0;
    for (const AnswerRequest& request : requests) {
      Tokens text = request.prompt, answer;
      do {
        std::vector<double> logits = test::logits_of(*model, text).back();
        padded += argmax(logits) >= vocabulary;
        logits.resize(static_cast<size_t>(vocabulary));
        answer.push_back(argmax(logits));
        text.push_back(answer.back());
      } while (!ends(answer.back()) && static_cast<int64_t>(answer.size()) < request.max_tokens);
      ended += ends(answer.back());
      expected.push_back(answer);
    }
    for (const int64_t batch : {1, 30, 100000}) {
      CAPTURE(json, batch, ended, padded);
      const auto answers = ModelScorer(*model, batch, vocabulary).answer(requests, ends, [](int64_t) {});
      CHECK(answers == expected);
    }
    CHECK(ended > 0);
    CHECK(ended < requests.size());
    CHECK(padded > 0);
  }
}

TEST_CASE("a decoder that begins with ragged prompts goes on like decoders of one") {
  const auto model = test::tiny_model(test::kTinyHybrid, DType::kF64);
  const std::vector<Tokens> prompts = {test::random_tokens(17, 61, 1), test::random_tokens(1, 61, 2),
                                       test::random_tokens(40, 61, 3)};
  Decoder together(*model, 3);
  std::vector<double> found = together.begin(prompts);
  for (int step = 0; step < 3; ++step) {
    const Tokens next = test::random_tokens(3, 61, static_cast<uint64_t>(10 + step));
    const auto stepped = together.advance(next, 1);
    for (size_t row = 0; row < 3; ++row) {
      Tokens text = prompts[row];
      for (int before = 0; before <= step; ++before) {
        text.push_back(test::random_tokens(3, 61, static_cast<uint64_t>(10 + before))[row]);
      }
      const auto rows = test::logits_of(*model, text);
      for (size_t i = 0; i < 61; ++i) {
        REQUIRE(std::abs(stepped[row * 61 + i] - rows.back()[i]) < 1e-10);
        if (step == 0) REQUIRE(std::abs(found[row * 61 + i] - rows[prompts[row].size() - 1][i]) < 1e-10);
      }
    }
  }
}
