// The complete runs of configs/run.
#include <fmt/core.h>

#include <filesystem>

#include "apps/training_run.h"
#include "core/file.h"
#include "support/catch.h"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

test::Outcome plan(const std::string& name, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"--config", SLUICE_SOURCE_DIR "/configs/run/" + name, "--dry-run",
                                        "--set", "train.device=cuda"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return test::run_program("train", arguments);
}

// What stands between `before` and the next of `ends`.
std::string part(const std::string& text, const std::string& before, const char* ends) {
  const size_t begin = text.find(before);
  REQUIRE(begin != std::string::npos);
  const size_t at = begin + before.size();
  return text.substr(at, text.find_first_of(ends, at) - at);
}

}  // namespace

TEST_CASE("every run that comes with the project has a plan") {
  int runs = 0;
  for (const auto& entry : fs::directory_iterator(SLUICE_SOURCE_DIR "/configs/run")) {
    const auto outcome = plan(entry.path().filename().string());
    INFO(entry.path() << "\n" << outcome.output);
    CHECK(outcome.exit_code == 0);
    ++runs;
  }
  CHECK(runs >= 10);
}

TEST_CASE("docs/paper_runs.md has what train --dry-run says of the paper's runs") {
  const std::string page = read_text_file(SLUICE_SOURCE_DIR "/docs/paper_runs.md", ErrorKind::kInternal);
  for (const auto& [name, speed] :
       {std::pair("gla_340m", "208753"), std::pair("gla_1.3b", "62919"),
        std::pair("transformer_340m", "192138"), std::pair("transformer_1.3b", "61700")}) {
    const std::string file = fmt::format("paper_{}.json", name);
    const auto one = plan(file, {"--tokens-per-second", speed});
    const auto eight = plan(
        file, {"--tokens-per-second", speed, "--set", "parallel.world_size=8", "--set", "parallel.zero=1"});
    INFO(one.output << eight.output);
    const std::string row =
        fmt::format("| `{}` | {} | {} x {} | {} | {} h | {} h |", file,
                    part(one.output, "parameters      ", " "), part(one.output, "steps           ", " "),
                    part(one.output, " of ", " "), part(one.output, "device memory   ", ":"),
                    part(one.output, "time            ", " "), part(eight.output, "time            ", " "));
    INFO("expected: " << row);
    CHECK(page.find(row) != std::string::npos);
    CHECK(part(eight.output, " on ", " ") == "8");
  }
}

TEST_CASE("a plan for several processes accumulates less, and needs no GPU to be there") {
  const auto one = plan("paper_gla_340m.json"),
             eight = plan("paper_gla_340m.json", {"--set", "parallel.world_size=8"});
  CHECK_THAT(one.output, test::contains("28610 of 524288 tokens (micro batches: 16)"));
  CHECK_THAT(eight.output, test::contains("28610 of 524288 tokens (micro batches: 2)"));
  CHECK(one.output.find("time  ") == std::string::npos);
  const auto uneven = plan("paper_gla_340m.json", {"--set", "parallel.world_size=7"});
  CHECK(uneven.exit_code == 2);
}
