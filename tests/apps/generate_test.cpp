// The program generate: what it prints is what the sampler draws.
#include "core/file.h"
#include "data/tokenizer.h"
#include "run_app.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/text_sampler.h"
#include "train/tiny_model.h"

using namespace sluice;

TEST_CASE("generate prints ids where there is no tokenizer") {
  const test::TemporaryDirectory directory;
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32);
  test::write_model(directory.path(), *model);
  SamplingOptions options;
  options.max_tokens = 12;
  options.seed = 5;
  options.choice = {.temperature = 0.7, .top_k = 20, .top_p = 0.9};
  std::string expected;
  TextSampler(*model, options).generate(std::vector<int32_t>{3, 4, 5}, [&](int32_t token) {
    expected += (expected.empty() ? "" : " ") + std::to_string(token);
  });
  const std::string common = "generate --threads 1 -c " + directory.path().string();
  const auto result = test::run_app(common +
                                        " --prompt-tokens 3,4,5 -n 12 --seed 5 --temperature 0.7 --top-k 20 "
                                        "--top-p 0.9 --no-stop",
                                    directory.path());
  INFO(result.errors);
  CHECK(result.exit_code == 0);
  CHECK(result.output == expected + "\n");
  CHECK_THAT(result.errors, test::contains("prompt: 3 tokens") && test::contains("text: 12 tokens") &&
                                test::contains("constant"));

  const auto two =
      test::run_app(common +
                        " --prompt-tokens 3,4,5 -n 12 --seed 5 --temperature 0.7 --top-k 20 --top-p 0.9"
                        " --no-stop --texts 2",
                    directory.path());
  CHECK(two.exit_code == 0);
  CHECK_THAT(two.output, test::contains("--- 1 ---\n" + expected + "\n--- 2 ---\n"));
  CHECK_THAT(two.errors, test::contains("text: 24 tokens"));

  const auto expect_error = [&](const std::string& arguments, int exit_code, const std::string& part) {
    const auto failed = test::run_app(common + arguments, directory.path());
    CAPTURE(arguments, failed.errors);
    CHECK(failed.exit_code == exit_code);
    CHECK_THAT(failed.errors, test::contains(part));
  };
  expect_error(" --prompt hello", 2, "--prompt-tokens");
  expect_error(" --prompt hello --prompt-tokens 1", 2, "excludes");
  expect_error(" --prompt-tokens 99", 2, "prompt token 99");
  expect_error(" --top-p 2", 2, "top-p 2");
  expect_error(" --prompt-tokens 1 --texts 0", 2, "0 texts");
  expect_error(" --prompt-file /nonexistent/file", 3, "/nonexistent/file");
}

TEST_CASE("generate streams text, from a prompt on the command line, in a file or on standard input") {
  const test::TemporaryDirectory directory;
  const Tokenizer tokenizer(test::write_tokenizer(directory / "tokenizer.model"));
  const auto model = test::tiny_model(test::kTinyGla, DType::kF32, 1, 300);
  test::write_model(directory.path(), *model);
  write_file_atomically(directory / "prompt.txt", "the cat", ErrorKind::kData);
  SamplingOptions options;
  options.max_tokens = 30;
  options.choice.temperature = 0;
  const std::string expected = sample_text(*model, tokenizer, "the cat", options) + "\n";
  const std::string common = "generate --threads 1 --greedy -n 30 --no-stop -c " + directory.path().string();
  const std::string file = (directory / "prompt.txt").string();
  for (const std::string& prompt :
       {std::string(" --prompt 'the cat'"), " --prompt-file " + file, " --prompt-file - < " + file}) {
    const auto result = test::run_app(common + prompt, directory.path());
    CAPTURE(prompt, result.errors);
    CHECK(result.exit_code == 0);
    CHECK(result.output == expected);
  }
}

TEST_CASE("generate --help names every option") {
  const test::TemporaryDirectory directory;
  for (const std::string program : {"generate", "evaluate"}) {
    const auto result = test::run_app(program + " --help", directory.path());
    CHECK(result.exit_code == 0);
    CHECK_THAT(result.output,
               test::contains("--checkpoint") && test::contains("--threads") && test::contains("Exit codes"));
  }
}
