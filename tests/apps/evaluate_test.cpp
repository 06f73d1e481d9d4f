// The program evaluate: its outputs agree with each other, and its errors have their exit codes.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/file.h"
#include "run_app.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/tiny_model.h"

using namespace sluice;

namespace {

struct Fixture {
  test::TemporaryDirectory directory;
  std::string model, tokens;

  explicit Fixture(const char* json = test::kTinyGla) {
    model = (directory / "model").string();
    std::filesystem::create_directory(model);
    test::write_model(model, *test::tiny_model(json, DType::kF32));
    tokens = (directory / "tokens.bin").string();
    test::write_shard(tokens, test::random_tokens(3000, 61, 7));
  }
  test::AppResult evaluate(const std::string& arguments) const {
    return test::run_app("evaluate --threads 1 " + arguments, directory.path());
  }
};

}  // namespace

TEST_CASE("evaluate prints tables and writes the same numbers as JSON and SVG") {
  const Fixture f;
  const auto json_path = f.directory / "result.json", svg_path = f.directory / "result.svg";
  const auto result = f.evaluate("--checkpoint " + f.model + " --data " + f.tokens +
                                 " --lengths 100,1000 --segment 300 --bigram-baseline " + f.tokens +
                                 " --json " + json_path.string() + " --svg " + svg_path.string());
  INFO(result.errors);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.output, test::contains("constant,") &&
                                test::contains("windows of L tokens, no overlap") &&
                                test::contains("bigram ppl") && test::contains("512-999"));
  const Json json = read_json_file(json_path, ErrorKind::kData);
  REQUIRE(json.at("results").size() == 2);
  const Json& longer = json.at("results")[1];
  CHECK(longer.at("windows") == 2);
  CHECK(longer.at("bytes").is_null());
  CHECK_THAT(result.output, test::contains(fmt::format("{:.3f}", longer.at("perplexity").get<double>())));

  // The same by definition, in double.
  const auto model = test::tiny_model(test::kTinyGla, DType::kF64);
  const auto tokens = test::random_tokens(3000, 61, 7);
  double sum = 0;
  for (int64_t window = 0; window < 2; ++window) {
    const auto begin = tokens.begin() + 1000 * window;
    for (const double loss : test::losses_by_definition(*model, {begin, begin + 1001})) sum += loss;
  }
  CHECK(longer.at("loss").get<double>() == Approx(sum / 2000).epsilon(1e-5));
  const std::string svg = read_text_file(svg_path, ErrorKind::kData);
  CHECK_THAT(svg, test::contains("length 1000") && test::contains("bigram baseline"));
}

TEST_CASE("evaluate reads text with the model's tokenizer and gives bits per byte") {
  const test::TemporaryDirectory directory;
  const auto path = test::write_tokenizer(directory / "tokenizer.model");
  test::write_model(directory.path(), *test::tiny_model(test::kTinyTransformer, DType::kF32, 1, 300));
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the cat sat on the mat\n";
  write_file_atomically(directory / "text.txt", text, ErrorKind::kData);
  const auto json_path = directory / "result.json";
  const auto result =
      test::run_app("evaluate -c " + directory.path().string() + " -d " + (directory / "text.txt").string() +
                        " -l 64 --json " + json_path.string(),
                    directory.path());
  INFO(result.errors);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.output, test::contains("grows,"));
  const Json json = read_json_file(json_path, ErrorKind::kData);
  CHECK(json.at("data_bytes") == text.size());
  const Json& only = json.at("results")[0];
  const double bits = only.at("loss").get<double>() * only.at("tokens").get<double>() / std::log(2.0);
  CHECK(only.at("bits_per_byte").get<double>() == Approx(bits / only.at("bytes").get<double>()));
}

TEST_CASE("evaluate --tasks prints scores and writes them as JSON, and each item's") {
  const test::TemporaryDirectory directory;
  const std::string model = directory.path().string();
  test::write_tokenizer(directory / "tokenizer.model");
  test::write_model(model, *test::tiny_model(test::kTinyGla, DType::kF32, 1, 300));
  const std::string choices = (directory / "choices.jsonl").string(),
                    words = (directory / "words.jsonl").string();
  write_file_atomically(choices,
                        R"({"context": "the cat ", "choices": ["sat", "ran after the dog"], "answer": 0})"
                        "\n"
                        R"({"context": "the dog ", "choices": ["sat", "ran after the cat"], "answer": 1})",
                        ErrorKind::kData);
  write_file_atomically(words, R"({"text": "the dog sat, and the cat ran"})", ErrorKind::kData);
  const auto json_path = directory / "scores.json", details_path = directory / "items.jsonl";
  const auto evaluate = [&](const std::string& arguments) {
    return test::run_app("evaluate --threads 1 -c " + model + " " + arguments, directory.path());
  };
  const std::string files = "--tasks " + choices + "," + words + " --task-type multiple_choice,last_word";
  const auto result =
      evaluate(files + " --json " + json_path.string() + " --task-details " + details_path.string());
  INFO(result.errors);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.output, test::contains("acc_norm") && test::contains("perplexity"));
  const Json json = read_json_file(json_path, ErrorKind::kData);
  REQUIRE(json.at("results").size() == 2);
  CHECK(json.at("results")[1].at("type") == "last_word");
  CHECK(json.at("results")[0].at("items") == 2);
  const std::string details = read_text_file(details_path, ErrorKind::kData);
  CHECK(std::count(details.begin(), details.end(), '\n') == 3);

  const auto expect = [&](const std::string& arguments, int exit_code, const std::string& part) {
    const auto refused = evaluate(arguments);
    CAPTURE(arguments, refused.errors);
    CHECK(refused.exit_code == exit_code);
    CHECK_THAT(refused.errors, test::contains(part));
  };
  expect("--tasks " + words, 3, "words.jsonl: line 1: 1 problem\n  type: is required");
  expect("--tasks " + words + " --task-type contains", 3, "answers: is required");
  expect("--tasks " + words + " --task-type cloze", 2, "\"cloze\" is not known");
  expect("--tasks " + words + " --task-type last_word,last_word", 2, "2 task types for 1 task files");
  expect("--tasks " + words + " --data " + words, 2, "--data excludes --tasks");
  expect("--tasks " + words + " --task-type last_word --batch-tokens 0", 2, "0 tokens a batch");
  expect("--task-type last_word --data " + words, 2, "--task-type requires --tasks");
  std::filesystem::remove(directory / "tokenizer.model");
  expect(files, 2, "--tokenizer");
}

TEST_CASE("evaluate: errors and their exit codes") {
  const Fixture f(test::kTinyTransformer);
  const std::string model = " --checkpoint " + f.model, data = " --data " + f.tokens;
  const auto expect = [&](const std::string& arguments, int exit_code, const std::string& part) {
    const auto result = f.evaluate(arguments);
    CAPTURE(arguments, result.errors);
    CHECK(result.exit_code == exit_code);
    CHECK_THAT(result.errors, test::contains(part));
  };
  expect(data, 2, "--checkpoint is required");
  expect(model, 2, "--data is required");
  expect(model + data + " --nonsense", 2, "--nonsense");
  expect(model + data + " --lengths 2000", 2, "--allow-growing-state");
  expect(model + data + " --lengths 2000 --allow-growing-state --segment 0", 2, "segment of 0");
  expect(model + data + " --dtype bfloat16 --device cpu", 2, "needs a GPU");
  expect(model + " --data " + f.tokens + "x", 3, f.tokens + "x");
  expect(model + data + " --lengths 5000 --allow-growing-state", 3, "3000 tokens");
  expect(data + " --checkpoint " + f.model + "/none", 4, "none");
}
