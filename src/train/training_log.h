// Everything a run tells: a live line and a line every ten seconds on the terminal, log.jsonl with what the
// run computed (the same bytes whenever the run is repeated or resumed), timing.jsonl with how fast, and a
// TensorBoard event file.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "core/progress.h"
#include "train/event_file.h"
#include "train/jsonl_log.h"
#include "train/trainer.h"

namespace sluice {

class TrainingLog {
 public:
  // Files in `directory`; log.jsonl and timing.jsonl are cut to the sizes `state` remembers.
  TrainingLog(const RunConfig& run, const std::filesystem::path& directory, const TrainerState& state,
              double flops_per_token);

  void step(const StepResult& result, const TrainerState& state, double seconds);
  void validation(int64_t step, double loss, int64_t tokens);
  // That they are the same on all ranks was found in so many seconds.
  void weights_compared(int64_t step, double seconds);
  void sample(int64_t step, const std::string& prompt, const std::string& text);

  void sync();  // the lines written so far are durable

  int64_t log_bytes() const { return log_.size(); }
  int64_t timing_bytes() const { return timing_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  void show(const StepResult& result, const TrainerState& state, double tokens_per_second);

  const RunConfig& run_;
  Device device_;
  double flops_per_token_;
  JsonlLog log_;
  JsonlLog timing_;
  std::unique_ptr<EventFile> events_;
  Progress progress_;
  double smoothed_seconds_ = 0;  // of a step, for the time left
  Clock::time_point last_line_;
};

}  // namespace sluice
