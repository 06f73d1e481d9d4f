// Bad input gives one clear message and the right exit code; nothing hangs and nothing is lost.
#include <fmt/core.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "apps/training_run.h"
#include "core/file.h"
#include "data/shard_writer.h"
#include "support/catch.h"

using namespace sluice;
using test::TrainingRun;

namespace {

void check_refused(const TrainingRun& run, int exit_code, const std::vector<std::string>& parts,
                   const std::vector<std::string>& arguments = {},
                   const test::ChildProcess::Environment& environment = {}) {
  const auto outcome = run.train(arguments, environment);
  INFO(outcome.output);
  CHECK(outcome.exit_code == exit_code);
  for (const std::string& part : parts) CHECK_THAT(outcome.output, test::contains(part));
}

std::string shard(const TrainingRun& run) { return (run / "data/train_000000.bin").string(); }

void overwrite(const std::string& path, int64_t offset, const std::string& bytes) {
  OutputFile file(path, ErrorKind::kInternal, OutputFile::Mode::kAppend);
  file.write_at(offset, std::as_bytes(std::span(bytes.data(), bytes.size())));
  file.close();
}

}  // namespace

TEST_CASE("bad config: every problem at once, with the key and the nearest one") {
  TrainingRun run;
  run.set("optimizer.lrr", "1");
  run.set("train.micro_batch_sequences", "3000000000");
  run.set("train.steps", "\"many\"");
  run.set("model.hidden_size", "15");
  check_refused(
      run, 2,
      {"optimizer.lrr", "optimizer.lr", "train.micro_batch_sequences", "train.steps", "model.num_heads"});
}

TEST_CASE("bad config: files that are no JSON, or hold a key twice, or NaN") {
  TrainingRun run;
  const std::string good = read_text_file(run.config_path(), ErrorKind::kInternal);
  const auto with = [&](const std::string& text) {
    write_file_atomically(run.config_path(), text, ErrorKind::kInternal);
  };
  with("{\"train\": {\"steps\": 1, \"steps\": 2}}");
  check_refused(run, 2, {"steps"});
  with("{\"optimizer\": {\"lr\": NaN}}");
  check_refused(run, 2, {"line 1"});
  with(good.substr(0, good.size() / 2));
  check_refused(run, 2, {"config.json"});
  std::filesystem::remove(run.config_path());
  check_refused(run, 2, {run.config_path(), "No such file"});
}

TEST_CASE("bad config: combinations that make no sense") {
  {
    TrainingRun run;
    run.set("train.global_batch_tokens", "50");
    check_refused(run, 2, {"train.global_batch_tokens", "50"});
  }
  {
    TrainingRun run;
    run.set("train.segments", "5");
    check_refused(run, 2, {"train.segments", "16"});
  }
  {
    TrainingRun run;
    run.set("train.device", "\"cuda\"");
    check_refused(run, 2, {"train.device"});
  }
  TrainingRun run;
  check_refused(run, 2, {"2 processes"}, {}, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}});
  check_refused(run, 2, {"--confg"}, {"--confg", "x"});
}

TEST_CASE("bad data: missing, cut, with another magic, out of vocabulary, too short") {
  {
    TrainingRun run;
    std::filesystem::remove(shard(run));
    check_refused(run, 3, {"train_*.bin"});
  }
  {
    TrainingRun run;
    std::filesystem::resize_file(shard(run), 5000);
    check_refused(run, 3, {"train_000000.bin", "5000"});
  }
  {
    TrainingRun run;
    overwrite(shard(run), 4, std::string("\x63", 1));
    check_refused(run, 3, {"train_000000.bin", "version"});
  }
  {
    TrainingRun run;
    overwrite(shard(run), 1024 + 2 * 100, std::string("\x3d\x00", 2));
    check_refused(run, 3, {"train_000000.bin", "61", "100"});
  }
  TrainingRun run;
  run.set("train.sequence_length", "6000");
  run.set("train.global_batch_tokens", "0");
  check_refused(run, 3, {"6000"});
}

TEST_CASE("bad checkpoint: another shape, not one valid, an output directory that cannot be") {
  TrainingRun run;
  REQUIRE(run.train({"--set", "train.steps=4", "--set", "schedule.warmup_steps=1", "--set",
                     "train.validate_every=0"})
              .exit_code == 0);
  check_refused(run, 4, {"the model needs"}, {"--set", "model.intermediate_size=32"});
  check_refused(run, 2, {"--resume never"}, {"--resume", "never"});
  check_refused(run, 4, {"nowhere"}, {"--resume", (run / "nowhere").string()});
  const auto weights = run / "run/checkpoints/step_00000004/model.safetensors";
  std::filesystem::resize_file(weights, 100);
  check_refused(run, 4, {"model.safetensors", "none of the 1 checkpoints"});
  write_file_atomically(run / "file", "", ErrorKind::kInternal);
  check_refused(run, 4, {"file/run"}, {"--set", "train.output_dir=" + (run / "file/run").string()});
}

TEST_CASE("numerics: steps that are not finite are skipped, and too many stop the run with 17") {
  {
    TrainingRun run;
    const auto outcome = run.train({}, {{"SLUICE_FAULT", "nan@10:3"}});
    INFO(outcome.output);
    CHECK(outcome.exit_code == 0);
    CHECK_THAT(outcome.output, test::contains("step 12"));
  }
  TrainingRun run;
  check_refused(run, 17, {"10 steps in a row", "not finite"}, {}, {{"SLUICE_FAULT", "nan@20:50"}});
  CHECK(std::filesystem::exists(run / "run/checkpoints/step_00000029/manifest.json"));
}

TEST_CASE("a full disk stops the run with 4, names the path, and keeps what was saved") {
  // A file system of 1 MiB needs the right to mount; /dev/full stands in for the log.
  if (!std::filesystem::exists("/dev/full")) return;
  TrainingRun run;
  std::filesystem::create_directories(run / "run");
  std::filesystem::create_symlink("/dev/full", run / "run/log.jsonl");
  check_refused(run, 4, {"log.jsonl", "No space left"});
}

TEST_CASE("other programs: wrong arguments and missing files") {
  const auto check = [](const std::string& program, const std::vector<std::string>& arguments, int exit_code,
                        const std::string& part) {
    const auto outcome = test::run_program(program, arguments);
    INFO(program << ": " << outcome.output);
    CHECK(outcome.exit_code == exit_code);
    CHECK_THAT(outcome.output, test::contains(part));
  };
  check("evaluate", {"--checkpoint", "/no/such", "--data", "x", "--lengths", "16"}, 4, "/no/such");
  check("generate", {"--checkpoint", "/no/such", "--prompt", "x"}, 4, "/no/such");
  check("generate", {}, 2, "--checkpoint");
  check("tokenize", {"decode", "--tokenizer", "/no/such", "/no/shard"}, 3, "/no/such");
  for (const char* program : {"train", "evaluate", "generate", "tokenize"})
    check(program, {"--help"}, 0, "Usage");
}

TEST_CASE("steps to profile are a range") {
  const TrainingRun run;
  for (const char* range : {"3", "3:", ":4", "4:4", "0:2", "1:2x", "a:b"}) {
    check_refused(run, 2, {"--profile-steps", range}, {"--profile-steps", range});
  }
}

TEST_CASE("a dry run prints the plan and writes nothing") {
  TrainingRun run;
  const auto outcome = run.train({"--dry-run"});
  CHECK(outcome.exit_code == 0);
  CHECK_THAT(outcome.output, test::contains("parameters"));
  CHECK_THAT(outcome.output, test::contains("100 of 64 tokens"));
  CHECK_FALSE(std::filesystem::exists(run / "run"));
}
