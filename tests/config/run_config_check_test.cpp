#include "config/run_config_check.h"

#include "config/error_of.h"
#include "config/run_fixture.h"

using namespace sluice;

namespace {

std::string error_with(const std::vector<std::string>& overrides) {
  const test::RunFixture run;
  return test::error_of(ErrorKind::kUsage, [&] { run.read(overrides); });
}

void accepts(const std::vector<std::string>& overrides) {
  const test::RunFixture run;
  CHECK_NOTHROW(run.read(overrides));
}

}  // namespace

TEST_CASE("segments divide the sequence") {
  accepts({"train.segments=4", "data.reset_state_at_document=true"});
  CHECK_THAT(error_with({"train.segments=3"}),
             test::contains("train.segments: train.sequence_length 512 does not split into 3 segments"));
  CHECK_THAT(error_with({"train.segments=1024"}), test::contains("does not split into 1024"));
}

TEST_CASE("the global batch is a whole number of micro batches on all processes") {
  accepts({"train.global_batch_tokens=8192", "train.micro_batch_sequences=4", "parallel.world_size=2"});
  CHECK_THAT(error_with({"train.global_batch_tokens=10000", "train.micro_batch_sequences=4",
                         "parallel.world_size=2"}),
             test::contains("train.global_batch_tokens: 10000 is not a multiple of "
                            "train.micro_batch_sequences 4 x train.sequence_length 512 x "
                            "parallel.world_size 2 = 4096; use 8192 or 12288"));
  CHECK_THAT(error_with({"train.global_batch_tokens=100"}), test::contains("= 512; use 512"));
  CHECK_THAT(error_with({"train.global_batch_tokens=9223372036854775807"}),
             test::contains("; use 9223372036854775296"));
}

TEST_CASE("sequences are cut among ranks in one way, into equal parts") {
  accepts({"parallel.sequence=2", "parallel.world_size=4"});
  // Groups of ranks count once.
  accepts({"parallel.sequence=2", "parallel.world_size=4", "train.global_batch_tokens=1024"});
  CHECK_THAT(error_with({"parallel.sequence=2", "parallel.world_size=4", "train.global_batch_tokens=512"}),
             test::contains("x parallel.world_size / parallel.sequence 2 = 1024; use 1024"));
  CHECK_THAT(error_with({"parallel.sequence=2", "parallel.world_size=3"}),
             test::contains("parallel.sequence: 3 ranks do not make groups of 2"));
  CHECK_THAT(error_with({"parallel.sequence=3", "parallel.world_size=3"}),
             test::contains("parallel.sequence: train.sequence_length 512 does not split into 3 parts"));
  CHECK_THAT(error_with({"parallel.sequence=2", "parallel.world_size=2", "train.segments=2"}),
             test::contains("parallel.sequence: 2, but train.segments is 2"));
}

TEST_CASE("products that 64 bits do not hold are reported") {
  CHECK_THAT(error_with({"train.sequence_length=9223372036854775807", "train.micro_batch_sequences=2"}),
             test::contains("x parallel.world_size 1 is more than 64 bits hold"));
  CHECK_THAT(error_with({"train.sequence_length=4611686018427387904", "parallel.world_size=4"}),
             test::contains("more than 64 bits hold"));
  CHECK_THAT(error_with({"train.steps=9223372036854775807"}),
             test::contains("9223372036854775807 steps of 512 tokens are more tokens than 64 bits count"));
}

TEST_CASE("warm-up and decay fit into the run") {
  accepts({"schedule.warmup_steps=1000"});
  CHECK_THAT(error_with({"schedule.warmup_steps=1001"}),
             test::contains("schedule.warmup_steps: 1001 warm-up steps are more than train.steps 1000"));
  accepts({"schedule.kind=wsd", "schedule.warmup_steps=800", "schedule.decay_fraction=0.2"});
  accepts({"schedule.kind=cosine", "schedule.warmup_steps=801", "schedule.decay_fraction=0.2"});
  CHECK_THAT(error_with({"schedule.kind=wsd", "schedule.warmup_steps=801", "schedule.decay_fraction=0.2"}),
             test::contains(
                 "schedule.decay_fraction: schedule.warmup_steps 801 and 200 of decay (0.2 of train.steps) "
                 "are more than train.steps 1000"));
}

TEST_CASE("validation and samples have what they need") {
  accepts({"train.validate_every=5", "data.validation=v.bin"});
  CHECK_THAT(error_with({"train.validate_every=5"}),
             test::contains("train.validate_every: 5, but data.validation is empty"));
  accepts({"train.sample_every=5", "data.tokenizer=t.model"});
  CHECK_THAT(error_with({"train.sample_every=5"}),
             test::contains("train.sample_every: 5, but data.tokenizer is empty"));
  accepts({"train.sample_prompts=[]"});
  CHECK_THAT(error_with({"train.sample_every=5", "data.tokenizer=t.model", "train.sample_prompts=[]"}),
             test::contains("train.sample_prompts: empty, but train.sample_every is 5"));
}

TEST_CASE("checkpoints that are kept are due") {
  accepts({"checkpoint.every=500", "checkpoint.keep_every=1000"});
  CHECK_THAT(error_with({"checkpoint.every=1000", "checkpoint.keep_every=1500"}),
             test::contains("checkpoint.keep_every: 1500 is not a multiple of checkpoint.every 1000"));
  CHECK_THAT(error_with({"checkpoint.every=0", "checkpoint.keep_every=10"}),
             test::contains("checkpoint.keep_every: 10, but checkpoint.every is 0"));
}

TEST_CASE("the compute type is one that the device has") {
  accepts({"train.device=auto", "train.dtype=bfloat16"});
  accepts({"train.device=cpu", "train.dtype=float64"});
  CHECK_THAT(error_with({"train.device=cpu", "train.dtype=bfloat16"}),
             test::contains("train.dtype: bfloat16 needs train.device cuda"));
  CHECK_THAT(error_with({"train.device=cuda", "train.dtype=float64"}),
             test::contains("train.dtype: float64 needs train.device cpu"));
}

TEST_CASE("settings that could not be read are not judged together with others") {
  // Each would contradict the default that stands in for the bad value.
  CHECK_THAT(error_with({"train.steps=x", "schedule.warmup_steps=50"}), test::contains(": 1 problem\n"));
  CHECK_THAT(error_with({"data.validation=5", "train.validate_every=5"}), test::contains(": 1 problem\n"));
  CHECK_THAT(error_with({"data.tokenizer=5", "train.sample_every=5"}), test::contains(": 1 problem\n"));
  CHECK_THAT(error_with({"parallel=5", "train.global_batch_tokens=100"}), test::contains(": 1 problem\n"));
  CHECK_THAT(error_with({"train.sequence_length=0", "train.segments=3"}), test::contains(": 1 problem\n"));
}
