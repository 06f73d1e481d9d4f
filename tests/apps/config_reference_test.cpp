// docs/config.md is what the program says.
#include "apps/training_run.h"
#include "core/file.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("docs/config.md is up to date") {
  const auto run = test::run_program("train", {"--print-config-reference"});
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  INFO("write it anew: train --print-config-reference > docs/config.md");
  CHECK(run.output == read_text_file(SLUICE_SOURCE_DIR "/docs/config.md", ErrorKind::kInternal));
}

TEST_CASE("the reference names types, bounds and defaults as the readers have them") {
  const auto run = test::run_program("train", {"--print-config-reference"});
  for (const char* line :
       {"| `steps` | integer, at least 1 | required |", "| `lr` | number, at least 0.0 | `0.0003` |",
        "| `kind` | \"cosine\", \"linear\", \"constant\" or \"wsd\" | `\"cosine\"` |",
        "| `expand_k` | number, 1e-06 to 1024.0 | `0.5` |",
        "| `document_token` | integer, 0 to 2147483647 | `null` |"})
    CHECK_THAT(run.output, test::contains(line));
}

TEST_CASE("train without --config says so") {
  const auto run = test::run_program("train", {});
  CHECK(run.exit_code == 2);
  CHECK_THAT(run.output, test::contains("--config is required"));
}
