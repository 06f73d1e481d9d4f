#include "config/run_config_check.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace sluice {
namespace {

bool sound(const Problems& problems, std::initializer_list<const char*> paths) {
  return std::none_of(paths.begin(), paths.end(), [&](const char* path) { return problems.concerns(path); });
}

void check_batch(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  if (sound(problems, {"train.sequence_length", "train.segments"}) &&
      train.sequence_length % train.segments != 0) {
    problems.add("train.segments",
                 fmt::format("train.sequence_length {} does not split into {} segments of equal length",
                             train.sequence_length, train.segments));
  }
  if (!sound(problems, {"train.sequence_length", "train.micro_batch_sequences", "train.global_batch_tokens",
                        "parallel.world_size"})) {
    return;
  }
  // Unknown before the start, where it is checked again. Ranks that share sequences count once.
  const int64_t world_size = config.parallel.data_ranks();
  const std::string ranks = fmt::format(
      "parallel.world_size{} {}", config.parallel.sequence > 1 ? " / parallel.sequence" : "", world_size);
  int64_t step_tokens = 0;  // of one micro batch on every process
  int64_t total_tokens = 0;
  if (__builtin_mul_overflow(train.micro_batch_sequences, train.sequence_length, &step_tokens) ||
      __builtin_mul_overflow(step_tokens, world_size, &step_tokens)) {
    problems.add("train.sequence_length",
                 fmt::format("train.micro_batch_sequences {} x train.sequence_length {} x "
                             "{} is more than 64 bits hold",
                             train.micro_batch_sequences, train.sequence_length, ranks));
    return;
  }
  if (train.global_batch_tokens % step_tokens != 0) {
    const int64_t below = train.global_batch_tokens / step_tokens * step_tokens;
    int64_t above = 0;
    const bool has_above = !__builtin_add_overflow(below, step_tokens, &above);
    std::string advice = below > 0 ? fmt::format("{}", below) : "";
    if (has_above) advice += fmt::format("{}{}", advice.empty() ? "" : " or ", above);
    problems.add("train.global_batch_tokens",
                 fmt::format("{} is not a multiple of train.micro_batch_sequences {} x train.sequence_length "
                             "{} x {} = {}; use {}",
                             train.global_batch_tokens, train.micro_batch_sequences, train.sequence_length,
                             ranks, step_tokens, advice));
    return;
  }
  if (sound(problems, {"train.steps"}) &&
      __builtin_mul_overflow(train.steps, std::max(step_tokens, train.global_batch_tokens), &total_tokens)) {
    problems.add("train.steps", fmt::format("{} steps of {} tokens are more tokens than 64 bits count",
                                            train.steps, std::max(step_tokens, train.global_batch_tokens)));
  }
}

void check_schedule(const RunConfig& config, Problems& problems) {
  const ScheduleConfig& schedule = config.schedule;
  const int64_t steps = config.train.steps;
  if (!sound(problems, {"schedule.warmup_steps", "train.steps"})) return;
  if (schedule.warmup_steps > steps) {
    problems.add("schedule.warmup_steps",
                 fmt::format("{} warm-up steps are more than train.steps {}", schedule.warmup_steps, steps));
    return;
  }
  if (schedule.kind != ScheduleKind::kWsd || !sound(problems, {"schedule.kind", "schedule.decay_fraction"})) {
    return;
  }
  const double decay_steps = std::floor(schedule.decay_fraction * static_cast<double>(steps));
  if (static_cast<double>(schedule.warmup_steps) + decay_steps > static_cast<double>(steps)) {
    problems.add("schedule.decay_fraction",
                 fmt::format("schedule.warmup_steps {} and {} of decay ({} of train.steps) are more than "
                             "train.steps {}; warm up or decay over fewer steps",
                             schedule.warmup_steps, decay_steps, schedule.decay_fraction, steps));
  }
}

void check_validation_and_samples(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  if (sound(problems, {"train.validate_every", "data.validation"}) && train.validate_every > 0 &&
      config.data.validation.empty()) {
    problems.add("train.validate_every",
                 fmt::format("{}, but data.validation is empty; name a validation set there, or set 0",
                             train.validate_every));
  }
  if (!sound(problems, {"train.sample_every"}) || train.sample_every == 0) return;
  if (sound(problems, {"data.tokenizer"}) && config.data.tokenizer.empty()) {
    problems.add(
        "train.sample_every",
        fmt::format("{}, but data.tokenizer is empty; samples need it, or set 0", train.sample_every));
  }
  if (sound(problems, {"train.sample_prompts"}) && train.sample_prompts.empty()) {
    problems.add("train.sample_prompts",
                 fmt::format("empty, but train.sample_every is {}; give a prompt (\"\" starts from nothing), "
                             "or set sample_every to 0",
                             train.sample_every));
  }
}

void check_checkpoints(const RunConfig& config, Problems& problems) {
  const CheckpointConfig& checkpoint = config.checkpoint;
  if (!sound(problems, {"checkpoint.every", "checkpoint.keep_every"}) || checkpoint.keep_every == 0) return;
  if (checkpoint.every == 0) {
    problems.add("checkpoint.keep_every",
                 fmt::format("{}, but checkpoint.every is 0, so no checkpoint is due at its multiples; set "
                             "checkpoint.every to {} or a divisor of it",
                             checkpoint.keep_every, checkpoint.keep_every));
  } else if (checkpoint.keep_every % checkpoint.every != 0) {
    problems.add(
        "checkpoint.keep_every",
        fmt::format("{} is not a multiple of checkpoint.every {}, so no checkpoint is due at most of "
                    "its multiples",
                    checkpoint.keep_every, checkpoint.every));
  }
}

void check_sequence_parts(const RunConfig& config, Problems& problems) {
  const int64_t parts = config.parallel.sequence, ranks = config.parallel.world_size;
  if (!sound(problems,
             {"parallel.sequence", "parallel.world_size", "train.sequence_length", "train.segments"}) ||
      parts == 1) {
    return;
  }
  if (ranks % parts != 0) {
    problems.add("parallel.sequence",
                 fmt::format("{} ranks do not make groups of {} that share sequences", ranks, parts));
  }
  if (config.train.sequence_length % parts != 0) {
    problems.add("parallel.sequence",
                 fmt::format("train.sequence_length {} does not split into {} parts of equal "
                             "length",
                             config.train.sequence_length, parts));
  }
  if (config.train.segments > 1) {
    problems.add("parallel.sequence",
                 fmt::format("{}, but train.segments is {}; a sequence is cut in one of the "
                             "two ways",
                             parts, config.train.segments));
  }
}

void check_device(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  if (!sound(problems, {"train.device", "train.dtype"})) return;
  if (train.device == "cpu" && train.dtype == "bfloat16") {
    problems.add("train.dtype", "bfloat16 needs train.device cuda; on the CPU use float32 or float64");
  }
  if (train.device == "cuda" && train.dtype == "float64") {
    problems.add("train.dtype", "float64 needs train.device cpu; on CUDA use bfloat16 or float32");
  }
}

}  // namespace

void check_run_config(const RunConfig& config, Problems& problems) {
  check_batch(config, problems);
  check_schedule(config, problems);
  check_validation_and_samples(config, problems);
  check_checkpoints(config, problems);
  check_device(config, problems);
  check_sequence_parts(config, problems);
}

}  // namespace sluice
