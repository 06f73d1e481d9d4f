// train --profile-steps: what it leaves in the output directory.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "support/catch.h"
#include "training_run.h"

using namespace sluice;
using Catch::Contains;
using test::TrainingRun;

namespace {

// Spans of a name in a trace.
int count_spans(const std::filesystem::path& trace, const std::string& name) {
  const auto json = nlohmann::json::parse(read_text_file(trace, ErrorKind::kUsage));
  int count = 0;
  for (const auto& event : json["traceEvents"]) count += event["ph"] == "X" && event["name"] == name;
  return count;
}

}  // namespace

TEST_CASE("a timeline of some steps, as a trace and as a table") {
  TrainingRun run;
  run.set("train.steps", "6");
  const auto outcome = run.train({"--profile-steps", "3:5"});
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  CHECK_THAT(outcome.output, Contains("timeline of steps 3 to 4"));
  CHECK(count_spans(run / "run/timeline.json", "step") == 2);
  CHECK(count_spans(run / "run/timeline.json", "forward") > 0);
  CHECK(count_spans(run / "run/timeline.json", "gemm") > 10);
  const std::string table = read_text_file(run / "run/timeline.txt", ErrorKind::kUsage);
  CHECK_THAT(outcome.output, Contains(table));
  CHECK_THAT(table, Contains("2 steps, ") && Contains("nothing of the GPU: ") && Contains("backward "));
}

TEST_CASE("a timeline ends with the run, and is none of a run that never comes there") {
  TrainingRun run;
  run.set("train.steps", "6");
  REQUIRE(run.train({"--profile-steps", "6:100"}).exit_code == 0);
  CHECK(count_spans(run / "run/timeline.json", "step") == 1);
  std::filesystem::remove(run / "run/timeline.json");
  run.set("train.steps", "8");
  REQUIRE(run.train({"--profile-steps", "9:11"}).exit_code == 0);
  CHECK_FALSE(std::filesystem::exists(run / "run/timeline.json"));
}
