// The training program in several processes: the same run as in one, the same decisions on all of them, and
// no process left behind.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "ranked_run.h"
#include "support/catch.h"
#include "train/checkpoint_read.h"

using namespace sluice;
using test::RankedRun;

namespace {

// RMS of the difference over RMS of the reference.
double distance(const std::vector<double>& values, const std::vector<double>& reference) {
  REQUIRE(values.size() == reference.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    difference += (values[i] - reference[i]) * (values[i] - reference[i]);
    size += reference[i] * reference[i];
  }
  return std::sqrt(difference / size);
}

void check_equal_runs(const RankedRun& run, const std::string& output, const std::string& reference,
                      double tolerance) {
  const double losses = distance(run.losses(output), run.losses(reference));
  const double weights = distance(run.weights(output), run.weights(reference));
  INFO(output << ": losses differ by " << losses << ", weights by " << weights);
  CHECK(losses <= tolerance);
  CHECK(weights <= tolerance);
}

struct Parts {
  int ranks, parts, zero = 0;
};

// The run on one rank, and with its sequences shared; "R_by_P" are the outputs.
void check_shared_sequences(RankedRun& run, const std::vector<Parts>& cases, double tolerance) {
  REQUIRE(run.on(1, "one").exit_code == 0);
  for (const auto& [ranks, parts, zero] : cases) {
    run.set("parallel.sequence", std::to_string(parts));
    run.set("parallel.zero", std::to_string(zero));
    const std::string output = std::to_string(ranks) + "_by_" + std::to_string(parts);
    const auto outcome = run.on(ranks, output);
    INFO(outcome.output);
    REQUIRE(outcome.exit_code == 0);
    check_equal_runs(run, output, "one", tolerance);
  }
}

constexpr const char* kTransformer =
    R"({"model_type": "transformer", "vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2,
        "intermediate_size": 24})";

}  // namespace

TEST_CASE("ranks train as one process that accumulates as many micro batches") {
  for (const bool transformer : {false, true}) {
    RankedRun run;
    if (transformer) run.set("model", kTransformer);
    REQUIRE(run.on(1, "one").exit_code == 0);
    for (const auto& [ranks, zero] : {std::pair{2, 0}, {4, 0}, {2, 1}, {4, 1}}) {
      run.set("parallel.zero", std::to_string(zero));
      const std::string output = std::to_string(ranks) + "_zero_" + std::to_string(zero);
      const auto outcome = run.on(ranks, output);
      INFO(outcome.output);
      REQUIRE(outcome.exit_code == 0);
      check_equal_runs(run, output, "one", 1e-10);
    }
  }
}

TEST_CASE("ranks train as one process in float32") {
  for (const bool transformer : {false, true}) {
    RankedRun run;
    run.set("train.dtype", "float32");
    // At 0.01 this GLA model amplifies rounding: one process whose micro batches are merely twice as large
    // ends as far away (weights 1.2e-2) as four ranks do. Here both stay within 1e-7.
    run.set("optimizer.lr", "0.003");
    if (transformer) run.set("model", kTransformer);
    REQUIRE(run.on(1, "one").exit_code == 0);
    for (const int zero : {0, 1}) {
      run.set("parallel.zero", std::to_string(zero));
      const std::string output = "zero_" + std::to_string(zero);
      REQUIRE(run.on(4, output).exit_code == 0);
      check_equal_runs(run, output, "one", 1e-5);
    }
  }
}

TEST_CASE("segments, recomputation and labels that differ from rank to rank change nothing") {
  RankedRun run;
  run.set("train.segments", "2");
  run.set("train.recompute", "layer");
  run.set("data.reset_state_at_document", "true");
  run.set("data.document_token", "3");
  REQUIRE(run.on(1, "one").exit_code == 0);
  REQUIRE(run.on(2, "two").exit_code == 0);
  check_equal_runs(run, "two", "one", 1e-10);
}

TEST_CASE("ranks that share sequences train as one process") {
  for (const bool documents : {false, true}) {
    RankedRun run;
    run.set("train.sequence_length", "32");
    run.set("model.use_short_conv", "true");
    if (documents) {
      run.set("data.reset_state_at_document", "true");
      run.set("data.document_token", "3");
      run.set("train.recompute", "layer");
    }
    // Groups of two and of four, two groups of two beside each other.
    check_shared_sequences(run, {{2, 2}, {4, 4, 1}, {4, 2}}, 1e-10);
  }
}

TEST_CASE("ranks that share sequences gather keys and values for softmax attention") {
  constexpr const char* kHybrid =
      R"({"model_type": "gla", "vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2,
          "intermediate_size": 24, "attn": {"layers": [1], "num_heads": 2, "num_kv_heads": 1, "window_size": 11}})";
  for (const bool hybrid : {false, true}) {
    RankedRun run;
    run.set("model", hybrid ? kHybrid : kTransformer);
    run.set("train.sequence_length", "32");
    if (hybrid) {
      run.set("data.reset_state_at_document", "true");
      run.set("data.document_token", "3");
      run.set("train.recompute", "layer");
    }
    check_shared_sequences(run, {{2, 2}, {4, 4}, {4, 2}}, 1e-10);
    REQUIRE(run.on(4, "again").exit_code == 0);
    CHECK(run.losses("again") == run.losses("4_by_2"));
    CHECK(run.weights("again") == run.weights("4_by_2"));
  }
}

TEST_CASE("ranks that share sequences train as one process in float32") {
  RankedRun run;
  run.set("train.dtype", "float32");
  run.set("optimizer.lr", "0.003");
  run.set("train.sequence_length", "32");
  run.set("model.use_short_conv", "true");
  check_shared_sequences(run, {{4, 4}}, 1e-5);
}

TEST_CASE("sequences that cannot be shared are refused") {
  RankedRun run;
  run.set("parallel.sequence", "2");
  auto outcome = run.on(1, "run");
  CHECK(outcome.exit_code == 2);
  CHECK_THAT(outcome.output, test::contains("parallel.sequence: 1 ranks do not make groups of 2"));
}

TEST_CASE("a run begun on four ranks goes on with two and ends with one, every sequence once") {
  RankedRun run;
  REQUIRE(run.on(1, "straight").exit_code == 0);
  struct Stage {
    int ranks, zero, stop, exit_code;
  };
  // Moments of four files, of two, of one, each read by another number of ranks.
  const std::vector<std::vector<Stage>> journeys = {
      {{4, 0, 20, 75}, {2, 0, 35, 75}, {1, 0, 50, 0}},
      {{4, 1, 10, 75}, {2, 1, 20, 75}, {4, 0, 30, 75}, {2, 1, 40, 75}, {1, 0, 50, 0}}};
  for (size_t journey = 0; journey < journeys.size(); ++journey) {
    const std::string output = "journey_" + std::to_string(journey);
    for (const Stage& stage : journeys[journey]) {
      run.set("parallel.zero", std::to_string(stage.zero));
      const std::string stop = std::to_string(stage.stop);
      const auto outcome = run.on(stage.ranks, output, stage.exit_code == 75 ? "term@" + stop : "");
      INFO(outcome.output);
      REQUIRE(outcome.exit_code == stage.exit_code);
      const auto checkpoint = run / (output + "/checkpoints/step_000000" + stop);
      CHECK(read_trainer_state(checkpoint).cursor == 8 * stage.stop);
      const bool shards =
          std::filesystem::exists(checkpoint / "trainer/optimizer-00001-of-00002.safetensors") ||
          std::filesystem::exists(checkpoint / "trainer/optimizer-00004-of-00004.safetensors");
      CHECK(shards == (stage.zero == 1));
    }
    // Sequences are of random tokens: another one would show in the loss at once.
    check_equal_runs(run, output, "straight", 1e-10);
  }
}

TEST_CASE("the same ranks give the same bits") {
  for (const int zero : {0, 1}) {
    RankedRun run;
    run.set("parallel.zero", std::to_string(zero));
    REQUIRE(run.on(4, "first").exit_code == 0);
    REQUIRE(run.on(4, "second").exit_code == 0);
    CHECK(run.all_hashes("first", 50) == run.all_hashes("second", 50));
    // And stopped in between.
    REQUIRE(run.on(4, "stopped", "term@25").exit_code == 75);
    REQUIRE(run.on(4, "stopped").exit_code == 0);
    CHECK(run.all_hashes("first", 50) == run.all_hashes("stopped", 50));
  }
}

TEST_CASE("a rank whose weights are no longer those of the others is named") {
  for (const int zero : {0, 1}) {
    RankedRun run;
    run.set("parallel.zero", std::to_string(zero));
    run.set("parallel.check_weights_every", "5");
    // In a slice of another rank under ZeRO: the next update would put it right, so look at once.
    const auto outcome = run.with_last(4, "run", "flip@10");
    INFO(outcome.output);
    CHECK(outcome.exit_code == 17);
    CHECK_THAT(outcome.output,
               test::contains("after step 10 the weights are not the same on all ranks: look at "
                              "memory and network of rank 3 on "));
    CHECK_FALSE(std::filesystem::exists(run / "run/checkpoints/step_00000010"));
  }
}

TEST_CASE("a checkpoint that lacks a rank's moments, or has another's, is refused") {
  RankedRun run;
  run.set("parallel.zero", "1");
  REQUIRE(run.on(4, "run", "term@10").exit_code == 75);
  const auto trainer = run / "run/checkpoints/step_00000010/trainer";
  const auto third = trainer / "optimizer-00003-of-00004.safetensors";
  std::filesystem::copy_file(trainer / "optimizer-00002-of-00004.safetensors", third,
                             std::filesystem::copy_options::overwrite_existing);
  auto outcome = run.on(4, "run");
  CHECK(outcome.exit_code == 4);
  CHECK_THAT(outcome.output, test::contains("optimizer-00003-of-00004.safetensors: its sha256 is "));
  std::filesystem::remove(third);
  outcome = run.on(1, "run");
  CHECK(outcome.exit_code == 4);
  CHECK_THAT(outcome.output, test::contains("optimizer-00003-of-00004.safetensors: is missing"));
}

TEST_CASE("every rank writes a timeline of its own") {
  RankedRun run;
  const auto outcome = run.on(2, "profiled", "", {"--profile-steps", "2:4"});
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  for (const std::string name : {"timeline", "timeline_rank1"}) {
    const std::string text = read_text_file(run / "profiled" / (name + ".json"), ErrorKind::kUsage);
    CHECK(Json::parse(text)["traceEvents"].size() > 10);
    CHECK(std::filesystem::exists(run / "profiled" / (name + ".txt")));
  }
}

TEST_CASE("ranks with different configs do not start") {
  const RankedRun run;
  const auto outcome = run.with_last(2, "run", "", {"--set", "optimizer.lr=0.02"});
  INFO(outcome.output);
  CHECK(outcome.exit_code == 2);
  CHECK_THAT(outcome.output, test::contains("rank 1 on "));
  CHECK_THAT(outcome.output, test::contains("in the config's section optimizer"));
  CHECK_FALSE(std::filesystem::exists(run / "run/log.jsonl"));
}

TEST_CASE("another number of processes than the config expects is refused") {
  RankedRun run;
  run.set("parallel.world_size", "4");
  const auto outcome = run.on(2, "run");
  CHECK(outcome.exit_code == 2);
  CHECK_THAT(outcome.output, test::contains("parallel.world_size: 4, but the number of processes is 2"));
}

TEST_CASE("a global batch that the started ranks cannot share is refused") {
  RankedRun run;
  run.set("train.global_batch_tokens", "96");
  const auto outcome = run.on(2, "run");
  CHECK(outcome.exit_code == 2);
  CHECK_THAT(outcome.output, test::contains("parallel.world_size 2 = 64; use 64 or 128"));
}

TEST_CASE("a signal to one rank stops all at the same step") {
  const RankedRun run;
  const auto outcome = run.with_last(2, "run", "term@17");
  INFO(outcome.output);
  CHECK(outcome.exit_code == 75);
  CHECK_THAT(outcome.output, test::contains("stopped by a signal to rank 1 on "));
  CHECK_THAT(outcome.output, test::contains("after step 17"));
  CHECK(std::filesystem::exists(run / "run/checkpoints/step_00000017"));
}

TEST_CASE("a gradient that is no number on one rank makes all skip the step") {
  const RankedRun run;
  const auto outcome = run.with_last(2, "run", "nan@10");
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  const auto lines = run.log("run");
  CHECK(lines[9]["grad_norm"] == "nan");
  CHECK(lines[9]["skipped"] == 1);
  CHECK(lines.back()["step"] == 50);
  for (const double weight : run.weights("run")) CHECK(std::isfinite(weight));
}

TEST_CASE("too many such steps end all with 17, after a checkpoint") {
  RankedRun run;
  run.set("train.nonfinite", "stop");
  const auto outcome = run.with_last(2, "run", "nan@10");
  INFO(outcome.output);
  CHECK(outcome.exit_code == 17);
  CHECK(std::filesystem::exists(run / "run/checkpoints/step_00000010/manifest.json"));
}

TEST_CASE("an error of one rank says which rank, and ends the others with its exit code") {
  const RankedRun run;
  const auto outcome = run.with_last(2, "run", "nonsense");
  INFO(outcome.output);
  CHECK(outcome.exit_code == 2);
  CHECK_THAT(outcome.output, test::contains("error: rank 1 on "));
  CHECK_THAT(outcome.output, test::contains("SLUICE_FAULT: \"nonsense\""));
}
