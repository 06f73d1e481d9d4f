// A run that was stopped, politely or not, ends in the same bits as one that was not.
#include <csignal>
#include <nlohmann/json.hpp>

#include "apps/training_run.h"
#include "core/file.h"
#include "support/catch.h"

using namespace sluice;
using test::TrainingRun;

namespace {

// Trains once without a stop into run/ and returns the hashes.
std::vector<std::string> straight(const TrainingRun& run) {
  const auto outcome = run.train();
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  return run.hashes("run", 100);
}

std::string other_output(const TrainingRun& run) { return "train.output_dir=" + (run / "again").string(); }

}  // namespace

TEST_CASE("100 steps equal 50 steps, SIGKILL and a resume") {
  const TrainingRun run;
  const auto expected = straight(run);
  // Killed well after the checkpoint of step 50, so that the log must be cut back.
  const auto killed = run.train({"--set", other_output(run)}, {{"SLUICE_FAULT", "kill@73"}});
  CHECK(killed.exit_code == -SIGKILL);
  const auto resumed = run.train({"--set", other_output(run)});
  INFO(resumed.output);
  CHECK(resumed.exit_code == 0);
  CHECK_THAT(resumed.output, test::contains("after step 50"));
  CHECK(run.hashes("again", 100) == expected);
}

TEST_CASE("100 steps equal a SIGTERM after step 37, exit 75 and a resume") {
  const TrainingRun run;
  const auto expected = straight(run);
  const auto stopped = run.train({"--set", other_output(run)}, {{"SLUICE_FAULT", "term@37"}});
  INFO(stopped.output);
  CHECK(stopped.exit_code == 75);
  CHECK_THAT(stopped.output, test::contains("stopped by SIGTERM after step 37"));
  CHECK(run.train({"--set", other_output(run)}).exit_code == 0);
  CHECK(run.hashes("again", 100) == expected);
}

TEST_CASE("a kill in the middle of a save leaves the checkpoint before it") {
  const TrainingRun run;
  const auto expected = straight(run);
  CHECK(run.train({"--set", other_output(run)}, {{"SLUICE_FAULT", "term@20"}}).exit_code == 75);
  CHECK(run.train({"--set", other_output(run)}, {{"SLUICE_FAULT", "kill@save"}}).exit_code == -SIGKILL);
  const auto resumed = run.train({"--set", other_output(run)});
  CHECK_THAT(resumed.output, test::contains("after step 20"));
  CHECK(resumed.exit_code == 0);
  CHECK(run.hashes("again", 100) == expected);
}

TEST_CASE("a signal while the program trains stops it after the step") {
  TrainingRun run;
  run.set("train.steps", "1000000");
  run.set("log.progress", "auto");
  test::ChildProcess child({std::string(SLUICE_BINARY_DIR) + "/train", "--config", run.config_path()});
  for (std::string line = child.read_line(); line.find("step 1/") == std::string::npos;
       line = child.read_line()) {
    REQUIRE_FALSE(line.empty());
  }
  child.kill(SIGUSR1);
  CHECK_THAT(child.read_all(), test::contains("stopped by SIGUSR1"));
  CHECK(child.wait() == 75);
}

TEST_CASE("a finished run says so and changes nothing") {
  const TrainingRun run;
  const auto expected = straight(run);
  const auto again = run.train();
  CHECK(again.exit_code == 0);
  CHECK_THAT(again.output, test::contains("complete"));
  CHECK(run.hashes("run", 100) == expected);
}

TEST_CASE("a damaged checkpoint is passed over for the one before it") {
  const TrainingRun run;
  const auto expected = straight(run);
  const auto weights = run / "run/checkpoints/step_00000100/model.safetensors";
  OutputFile file(weights, ErrorKind::kInternal, OutputFile::Mode::kAppend);
  file.write_at(file.size() - 5, std::as_bytes(std::span("X", 1)));
  file.close();
  const auto resumed = run.train();
  INFO(resumed.output);
  CHECK(resumed.exit_code == 0);
  CHECK_THAT(resumed.output, test::contains("model.safetensors"));
  CHECK_THAT(resumed.output, test::contains("after step 50"));
  CHECK(run.hashes("run", 100) == expected);
}

TEST_CASE("the log has one line a step in order, and validation lines") {
  const TrainingRun run;
  straight(run);
  const std::string text = read_text_file(run / "run/log.jsonl", ErrorKind::kInternal);
  int64_t next = 1, validations = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const Json line = parse_json(text.substr(begin, end - begin), "log", ErrorKind::kInternal);
    if (line.contains("validation_loss")) {
      ++validations;
    } else {
      CHECK(line["step"] == next++);
    }
    begin = end + 1;
  }
  CHECK(next == 101);
  CHECK(validations == 4);
}
