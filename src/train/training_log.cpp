#include "train/training_log.h"

#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/log.h"

namespace sluice {
namespace {

constexpr double kSecondsBetweenLines = 10.0;

// Off a terminal the lines every ten seconds are enough.
Progress::Mode progress_mode(const std::string& name) {
  const bool live = name == "on" || (name == "auto" && ::isatty(STDERR_FILENO) == 1);
  return live ? Progress::Mode::kOn : Progress::Mode::kOff;
}

double seconds_since_epoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

TrainingLog::TrainingLog(const RunConfig& run, const std::filesystem::path& directory,
                         const TrainerState& state, double flops_per_token)
    : run_(run),
      device_(compute_device(run.train)),
      flops_per_token_(flops_per_token),
      log_(directory / "log.jsonl", state.log_bytes),
      timing_(directory / "timing.jsonl", state.timing_bytes),
      progress_("train", static_cast<double>(run.train.steps), "steps", progress_mode(run.log.progress),
                static_cast<double>(state.step)),
      last_line_(Clock::now() - std::chrono::hours(1)) {
  if (run.log.tensorboard) events_ = std::make_unique<EventFile>(directory / "tensorboard", state.step);
}

void TrainingLog::step(const StepResult& result, const TrainerState& state, double seconds) {
  const double tokens_per_second = static_cast<double>(result.tokens) / seconds;
  // The first steps are slower than the rest; they fade quickly.
  smoothed_seconds_ = smoothed_seconds_ == 0 ? seconds : 0.9 * smoothed_seconds_ + 0.1 * seconds;
  show(result, state, tokens_per_second);
  if (result.step % run_.log.every != 0 && !result.skipped) return;
  const auto peak = allocator_of(device_).statistics().peak;
  log_.write(Json{{"step", result.step},
                  {"loss", result.loss},
                  {"grad_norm", result.gradient_norm},
                  {"lr", result.learning_rate},
                  {"tokens", state.tokens},
                  {"skipped", state.skipped}});
  timing_.write(Json{{"step", result.step},
                     {"seconds", seconds},
                     {"tokens_per_second", tokens_per_second},
                     {"flops_per_second", tokens_per_second * flops_per_token_},
                     {"peak_bytes", peak}});
  if (!events_) return;
  const double now = seconds_since_epoch();
  events_->scalar("train/loss", result.loss, result.step, now);
  events_->scalar("train/grad_norm", result.gradient_norm, result.step, now);
  events_->scalar("train/lr", result.learning_rate, result.step, now);
  events_->scalar("speed/tokens_per_second", tokens_per_second, result.step, now);
  events_->flush();
}

void TrainingLog::show(const StepResult& result, const TrainerState& state, double tokens_per_second) {
  const auto peak = static_cast<double>(allocator_of(device_).statistics().peak);
  std::string text =
      fmt::format("loss {:.4f}  grad {:.3f}  lr {:.2e}  {} tok/s  mem {}", result.loss, result.gradient_norm,
                  result.learning_rate, format_count(tokens_per_second), format_bytes(peak));
  if (state.skipped > 0) text += fmt::format("  skipped {}", state.skipped);
  if (result.skipped) {
    log::warning("step {}: loss {} or gradient norm {} is not finite; the step is skipped ({} in a row)",
                 result.step, result.loss, result.gradient_norm, state.skipped_in_a_row);
  }
  progress_.update(static_cast<double>(result.step), text);
  const auto now = Clock::now();
  const bool last = result.step == run_.train.steps;
  if (run_.log.progress == "off") return;
  if (!last && std::chrono::duration<double>(now - last_line_).count() < kSecondsBetweenLines) return;
  last_line_ = now;
  const double left = smoothed_seconds_ * static_cast<double>(run_.train.steps - result.step);
  log::info("step {}/{}  {}  {} left", result.step, run_.train.steps, text, format_duration(left));
}

void TrainingLog::validation(int64_t step, double loss, int64_t tokens) {
  log_.write(Json{{"step", step}, {"validation_loss", loss}, {"validation_tokens", tokens}});
  log::info("step {}  validation loss {:.4f}, perplexity {:.2f}, {} tokens", step, loss, std::exp(loss),
            tokens);
  if (!events_) return;
  events_->scalar("validation/loss", loss, step, seconds_since_epoch());
  events_->flush();
}

void TrainingLog::weights_compared(int64_t step, double seconds) {
  timing_.write(Json{{"step", step}, {"compare_weights_seconds", seconds}});
  const double between = static_cast<double>(run_.parallel.check_weights_every) * smoothed_seconds_;
  log::info("step {}  all ranks have the same weights, as {:.3f} s showed: {:.2f}% of the time of {} steps",
            step, seconds, between > 0 ? 100 * seconds / between : 0.0, run_.parallel.check_weights_every);
}

void TrainingLog::sample(int64_t step, const std::string& prompt, const std::string& text) {
  log_.write(Json{{"step", step}, {"prompt", prompt}, {"sample", text}});
  log::info("step {}  sample: {}{}", step, prompt, text);
}

void TrainingLog::sync() {
  log_.sync();
  timing_.sync();
}

}  // namespace sluice
