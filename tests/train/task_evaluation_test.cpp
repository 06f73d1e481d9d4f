#include "train/task_evaluation.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"
#include "train/task_report.h"

using namespace sluice;

namespace {

// Log-likelihoods by the text of the continuation, answers by the number of the request.
class StubScorer : public TaskScorer {
 public:
  explicit StubScorer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  std::vector<ContinuationScore> score(std::span<const ContinuationRequest> requests,
                                       const Advanced& advanced) const override {
    std::vector<ContinuationScore> scores;
    for (const ContinuationRequest& request : requests) {
      scores.push_back(of_text(tokenizer_.decode(request.continuation), tokenizer_.decode(request.context)));
      advanced(static_cast<int64_t>(request.context.size() + request.continuation.size()));
    }
    return scores;
  }
  std::vector<std::vector<int32_t>> answer(std::span<const AnswerRequest> requests, const EndsAnswer&,
                                           const Advanced&) const override {
    std::vector<std::vector<int32_t>> found;
    for (size_t i = 0; i < requests.size(); ++i)
      found.push_back(tokenizer_.encode(answers[i % answers.size()]));
    return found;
  }

  std::function<ContinuationScore(const std::string& continuation, const std::string& context)> of_text;
  std::vector<std::string> answers;

 private:
  const Tokenizer& tokenizer_;
};

struct Fixture {
  test::TemporaryDirectory directory;
  Tokenizer tokenizer{test::write_tokenizer(directory / "tokenizer.model")};
  TaskEncoder encoder{tokenizer, test::tiny_config(test::kTinyGla, 300)};
  StubScorer stub{tokenizer};

  std::vector<TaskResult> evaluate(const std::string& items, const TaskScorer* scorer = nullptr) const {
    write_file_atomically(directory / "items.jsonl", items, ErrorKind::kData);
    return evaluate_tasks(read_task_file(directory / "items.jsonl", std::nullopt), encoder,
                          scorer != nullptr ? *scorer : stub);
  }
};

const TaskMeasure& measure(const TaskResult& result, const std::string& name) {
  for (const TaskMeasure& candidate : result.measures) {
    if (candidate.name == name) return candidate;
  }
  throw std::runtime_error("no measure " + name);
}

std::string choices(const std::string& list, int answer, const std::string& context = "the cat ") {
  return R"({"type": "multiple_choice", "context": ")" + context + R"(", "choices": )" + list +
         R"(, "answer": )" + std::to_string(answer) + "}\n";
}

}  // namespace

TEST_CASE("a model with all mass on the answers scores 100 %, and one with none 0 %") {
  Fixture f;
  f.stub.answers = {"the Cat sat"};
  const std::string items =
      choices(R"(["sat", "ran"])", 0) + choices(R"(["ran", "dog", "sat"])", 2) +
      R"({"type": "last_word", "text": "the cat sat"})"
      "\n"
      R"({"type": "contains", "context": "the", "answers": ["dog", "cAt"]})"
      "\n"
      R"({"type": "needle", "haystack": "the cat. the dog.", "needle": " a.", "question": "b", "answer": "cat",)"
      R"( "lengths": [30, 50], "depths": [0, 1]})";
  f.stub.of_text = [](const std::string& continuation, const std::string&) {
    return continuation == " sat" ? ContinuationScore{0, true} : ContinuationScore{-1000, false};
  };
  const auto right = f.evaluate(items);
  REQUIRE(right.size() == 4);
  for (const TaskResult& result : right) {
    for (const TaskMeasure& m : result.measures) CHECK(m.value == 1);  // a perplexity of 1 too
  }
  CHECK(right[0].items == 2);
  CHECK(*measure(right[0], "acc").standard_error == 0);
  CHECK_FALSE(measure(right[1], "acc").standard_error);
  f.stub.answers = {"the dog sat\nthe cat"};  // the right words behind the line end
  f.stub.of_text = [](const std::string& continuation, const std::string&) {
    return continuation == " sat" ? ContinuationScore{-1000, false} : ContinuationScore{0, true};
  };
  const auto wrong = f.evaluate(items);
  CHECK(measure(wrong[0], "acc").value == 0);
  CHECK(measure(wrong[0], "acc_norm").value == 0);
  CHECK(measure(wrong[1], "acc").value == 0);
  CHECK(measure(wrong[2], "contains").value == 1);  // "dog" is an answer of this item
  CHECK(measure(wrong[3], "contains").value == 0);
}

TEST_CASE("accuracies by hand: the sum, a character and a byte of the choice as written") {
  Fixture f;
  // Of "sat" and "ran after": -3 and -6 in sum, -1 and -2/3 a character. Of "\u00e9\u00e9\u00e9\u00e9" and
  // "cats": 4 characters each, 8 bytes and 4.
  f.stub.of_text = [](const std::string& continuation, const std::string&) -> ContinuationScore {
    if (continuation == " sat") return {-3, false};
    if (continuation == " ran after") return {-6, false};
    if (continuation == " cats") return {-4, false};
    return {-5, false};
  };
  const auto result = f.evaluate(choices(R"(["sat", "ran after"])", 0) +
                                 choices(R"(["sat", "ran after"])", 1) + choices(R"(["éééé", "cats"])", 0) +
                                 choices(R"(["sat", "sat"])", 0) + choices(R"(["sat", "sat"])", 1))
                          .at(0);
  std::vector<std::vector<double>> scores;
  for (const TaskOutcome& outcome : result.outcomes) scores.push_back(outcome.scores);
  // acc, acc_norm, acc_bytes; of equals the first counts.
  CHECK(scores == std::vector<std::vector<double>>{{1, 0, 0}, {0, 1, 1}, {0, 0, 1}, {1, 1, 1}, {0, 0, 0}});
  CHECK(measure(result, "acc").value == Approx(0.4).epsilon(1e-15));
  CHECK(measure(result, "acc_bytes").value == Approx(0.6).epsilon(1e-15));
  // Sample deviation of 2 in 5: sqrt(5 * 0.24 / 4), over sqrt(5).
  CHECK(*measure(result, "acc").standard_error == Approx(std::sqrt(0.24 / 4)).epsilon(1e-14));
  CHECK(result.outcomes[1].log_likelihoods == std::vector<double>{-3, -6});
  CHECK(result.outcomes[4].line == 5);
}

TEST_CASE("choices may have contexts of their own") {
  Fixture f;
  f.stub.of_text = [](const std::string&, const std::string& context) {
    return ContinuationScore{context == "the dog" ? -1.0 : -2.0, false};
  };
  const auto result = f.evaluate(R"({"type": "multiple_choice", "contexts": ["the cat", "the dog"], )"
                                 R"("choices": [" ran", " ran"], "answer": 1})");
  CHECK(measure(result.at(0), "acc").value == 1);
}

TEST_CASE("the last word's perplexity is that of a word, with its standard error to first order") {
  Fixture f;
  f.stub.of_text = [](const std::string& continuation, const std::string&) {
    return continuation == " cat" ? ContinuationScore{-1, true} : ContinuationScore{-4, false};
  };
  const auto result = f.evaluate(
                           "{\"type\": \"last_word\", \"text\": \"the cat\"}\n"
                           "{\"type\": \"last_word\", \"text\": \"on the dog\"}")
                          .at(0);
  CHECK(measure(result, "acc").value == 0.5);
  CHECK(measure(result, "perplexity").value == Approx(std::exp(2.5)).epsilon(1e-14));
  CHECK(*measure(result, "perplexity").standard_error == Approx(std::exp(2.5) * 1.5).epsilon(1e-14));
}

TEST_CASE("needle cells are means over items of one length and depth") {
  Fixture f;
  f.stub.answers = {"cat", "dog", "cat", "cat", "dog"};  // the first item's four, the second one's first
  const auto item = [](const std::string& lengths, const std::string& depths) {
    return R"({"type": "needle", "haystack": "the cat. the dog.", "needle": " a.", "question": "b", )"
           R"("answer": "cat", "lengths": )" +
           lengths + R"(, "depths": )" + depths + "}\n";
  };
  const auto result = f.evaluate(item("[50, 30]", "[0.5, 0]") + item("[50]", "[0.5]")).at(0);
  CHECK(result.items == 2);
  CHECK(result.longest == 50);
  CHECK(result.tokens == 2 * 50 + 2 * 30 + 50);
  REQUIRE(result.cells.size() == 4);
  const auto cell = [&](size_t i, int64_t length, double depth, int64_t prompts, double value) {
    CAPTURE(i);
    CHECK(result.cells[i].length == length);
    CHECK(result.cells[i].depth == depth);
    CHECK(result.cells[i].prompts == prompts);
    CHECK(result.cells[i].contains.value == value);
  };
  cell(0, 30, 0, 1, 1);
  cell(1, 30, 0.5, 1, 1);
  cell(2, 50, 0, 1, 0);
  cell(3, 50, 0.5, 2, 0.5);
  CHECK(measure(result, "contains").value == 0.6);
}

TEST_CASE("scores of a model are those by definition, through files and batches") {
  Fixture f;
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64, 1, 300);
  const std::string items = choices(R"(["sat on the mat", "ran", "dog"])", 1) +
                            choices(R"(["ran after the cat", "the dog sat"])", 0, "and the dog ") +
                            R"({"type": "last_word", "text": "the dog sat, and the cat"})";
  const auto expected = [&](const std::string& context, const std::string& whole) {
    std::vector<int32_t> tokens = f.tokenizer.encode(whole);
    tokens.insert(tokens.begin(), 1);
    const auto losses = test::losses_by_definition(*model, tokens);
    double sum = 0;
    for (size_t i = f.tokenizer.encode(context).size(); i < losses.size(); ++i) sum -= losses[i];
    return sum;
  };
  for (const int64_t batch : {4, 1000}) {
    CAPTURE(batch);
    const ModelScorer scorer(*model, batch, 300);
    const auto results = f.evaluate(items, &scorer);
    REQUIRE(results.size() == 2);
    const auto close = [](double value) { return Approx(value).epsilon(1e-11); };
    CHECK(results[0].outcomes[0].log_likelihoods[0] == close(expected("the cat", "the cat sat on the mat")));
    CHECK(results[0].outcomes[0].log_likelihoods[2] == close(expected("the cat", "the cat dog")));
    CHECK(results[0].outcomes[1].log_likelihoods[1] ==
          close(expected("and the dog", "and the dog the dog sat")));
    const double word = expected("the dog sat, and the", "the dog sat, and the cat");
    CHECK(measure(results[1], "perplexity").value == close(std::exp(-word)));
  }
}

TEST_CASE("the report says the same as text, as JSON and item by item") {
  Fixture f;
  f.stub.answers = {"cat", "dog"};
  f.stub.of_text = [](const std::string& continuation, const std::string&) {
    return ContinuationScore{-static_cast<double>(continuation.size()), false};
  };
  TaskReport report;
  report.checkpoint = "runs/x";
  report.batch_tokens = 77;
  report.results = f.evaluate(
      choices(R"(["sat", "ran after"])", 0) + choices(R"(["sat", "ran after"])", 1) +
      R"({"type": "needle", "id": "n1", "haystack": "the cat. the dog.", "needle": " a.", "question": "b",)"
      R"( "answer": "cat", "lengths": [50], "depths": [0.25, 1]})");
  const std::string text = to_text(report);
  CHECK_THAT(text, test::contains("multiple_choice  acc            2  0.5000  0.5000") &&
                       test::contains("length  0.25     1\n    50  1.00  0.00\n"));
  const Json json = to_json(report);
  CHECK(json.at("batch_tokens") == 77);
  CHECK(json.at("results")[0].at("measures").at("acc").at("value") == 0.5);
  CHECK(json.at("results")[0].at("measures").at("acc").at("standard_error") == 0.5);
  CHECK(json.at("results")[1].at("cells")[1].at("contains").at("value") == 0.0);
  CHECK(json.at("results")[1].at("cells")[1].at("contains").at("standard_error").is_null());
  std::vector<Json> lines;
  const std::string details = details_jsonl(report);
  for (size_t at = 0; at < details.size(); at = details.find('\n', at) + 1) {
    lines.push_back(parse_json(details.substr(at, details.find('\n', at) - at), "details", ErrorKind::kData));
  }
  REQUIRE(lines.size() == 4);
  CHECK(lines[1].at("line") == 2);
  CHECK(lines[1].at("acc") == 0);
  CHECK(lines[1].at("log_likelihoods") == Json{-4.0, -10.0});
  CHECK(lines[3].at("id") == "n1");
  CHECK(lines[3].at("depth") == 1.0);
  CHECK(lines[3].at("output") == "dog");
}
