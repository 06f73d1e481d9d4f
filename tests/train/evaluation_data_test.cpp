#include "train/evaluation_data.h"

#include <cstdlib>
#include <functional>

#include "core/error.h"
#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"
#include "train/evaluation.h"
#include "train/text_sampler.h"

using namespace sluice;

namespace {

std::vector<int32_t> all_tokens(const EvaluationData& data) {
  std::vector<int32_t> tokens(static_cast<size_t>(data.tokens().size()));
  data.tokens().read(0, tokens);
  return tokens;
}

int exit_code_of(const std::function<void()>& body, std::string& message) {
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
    return error.exit_code();
  }
  return 0;
}

}  // namespace

TEST_CASE("text is recognised by name") {
  for (const char* text : {"a.txt", "b.jsonl", "c.jsonl.xz", "d.txt.gz", "e.zst", "README.md"}) {
    CAPTURE(text);
    CHECK(EvaluationData::is_text(text));
  }
  for (const char* tokens : {"a.bin", "shards", "dir/*.bin", "train_000000.bin"}) {
    CAPTURE(tokens);
    CHECK(!EvaluationData::is_text(tokens));
  }
}

TEST_CASE("text becomes tokens with a document token before each document, and leaves no file behind") {
  const test::TemporaryDirectory directory;
  const Tokenizer tokenizer(test::write_tokenizer(directory / "tokenizer.model"));
  const ModelConfig config = test::tiny_config(test::kTinyGla, tokenizer.vocabulary_size());
  const std::string first = "the cat sat on the mat\nand the dog",
                    second = "a second text, \xC3\xA9t\xC3\xA9";
  write_file_atomically(directory / "a.txt", first, ErrorKind::kData);
  write_file_atomically(directory / "b.jsonl", "{\"text\": \"" + second + "\"}\n{\"text\": \"x\"}\n",
                        ErrorKind::kData);
  std::vector<int32_t> expected;
  for (const std::string& text : {first, second, std::string("x")}) {
    expected.push_back(1);
    const auto ids = tokenizer.encode(text);
    expected.insert(expected.end(), ids.begin(), ids.end());
  }

  std::filesystem::create_directory(directory / "scratch");
  ::setenv("TMPDIR", (directory / "scratch").c_str(), 1);
  {
    const EvaluationData data({directory / "a.txt", directory / "b.jsonl"}, &tokenizer, config);
    CHECK(all_tokens(data) == expected);
    CHECK_THAT(data.description(), test::contains("a.txt") && test::contains("b.jsonl"));
    CHECK(!std::filesystem::is_empty(directory / "scratch"));
    const auto bytes = bytes_of_tokens(tokenizer, config.vocab_size + 5);
    CHECK(sum_over_scored(data.tokens(), data.tokens().size() - 1, bytes) ==
          static_cast<int64_t>(first.size() + second.size() + 1));
  }
  CHECK(std::filesystem::is_empty(directory / "scratch"));

  std::string message;
  write_file_atomically(directory / "broken.jsonl", "{", ErrorKind::kData);
  CHECK(exit_code_of([&] { EvaluationData({directory / "broken.jsonl"}, &tokenizer, config); }, message) ==
        3);
  CHECK_THAT(message, test::contains("broken.jsonl"));
  CHECK(std::filesystem::is_empty(directory / "scratch"));
  ::setenv("TMPDIR", (directory / "missing").c_str(), 1);
  CHECK(exit_code_of([&] { EvaluationData({directory / "a.txt"}, &tokenizer, config); }, message) == 3);
  CHECK_THAT(message, test::contains("TMPDIR"));
  ::unsetenv("TMPDIR");
}

TEST_CASE("token files are read as they are and checked against the vocabulary") {
  const test::TemporaryDirectory directory;
  const ModelConfig config = test::tiny_config(test::kTinyGla);
  test::write_shard(directory / "a.bin", {1, 2, 3});
  test::write_shard(directory / "b.bin", {4, 60});
  const EvaluationData data({directory / "a.bin", directory / "b.bin"}, nullptr, config);
  CHECK(all_tokens(data) == std::vector<int32_t>{1, 2, 3, 4, 60});

  std::string message;
  test::write_shard(directory / "bad.bin", {4, 61});
  CHECK(exit_code_of([&] { EvaluationData({directory / "bad.bin"}, nullptr, config); }, message) == 3);
  CHECK_THAT(message, test::contains("bad.bin") && test::contains("61"));
  CHECK(exit_code_of([&] { EvaluationData({directory / "a.txt"}, nullptr, config); }, message) == 2);
  CHECK_THAT(message, test::contains("--tokenizer"));
  CHECK(exit_code_of(
            [&] {
              EvaluationData({directory / "a.bin", directory / "a.txt"}, nullptr, config);
            },
            message) == 2);
  CHECK_THAT(message, test::contains("some are text"));
}

TEST_CASE("sampled text is what the sampler's tokens decode to") {
  const test::TemporaryDirectory directory;
  const Tokenizer tokenizer(test::write_tokenizer(directory / "tokenizer.model"));
  const auto tiny = test::tiny_model(test::kTinyGla, DType::kF32, 3, tokenizer.vocabulary_size());
  const LanguageModel& model = *tiny;
  const auto prompt = prompt_tokens(model, tokenizer, "the cat");
  REQUIRE(prompt.size() > 1);
  CHECK(prompt[0] == 1);
  CHECK(std::vector(prompt.begin() + 1, prompt.end()) == tokenizer.encode("the cat"));
  SamplingOptions options;
  options.max_tokens = 15;
  std::vector<int32_t> tokens;
  TextSampler(model, options).generate(prompt, [&](int32_t token) { tokens.push_back(token); });
  CHECK(sample_text(model, tokenizer, "the cat", options) == tokenizer.decode(tokens));
}
