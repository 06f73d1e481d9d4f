#include "train/training_loop.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/file.h"
#include "core/log.h"
#include "data/token_formats.h"
#include "data/token_stream.h"
#include "data/tokenizer.h"
#include "dist/agreement.h"
#include "dist/watchdog.h"
#include "train/run_checkpoint.h"
#include "train/run_report.h"
#include "train/stop_signal.h"
#include "train/text_sampler.h"
#include "train/trainer.h"
#include "train/training_log.h"
#include "train/window_scorer.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

// What happens between steps: validation, samples, checkpoints.
class RunLoop {
 public:
  RunLoop(const RunConfig& run, const ModelConfig& model, const StartOptions& options,
          Communicator& communicator)
      : run_(run),
        communicator_(communicator),
        watchdog_(communicator),
        step_limit_(run.parallel.first_step_seconds, run.parallel.step_seconds),
        profile_(options.profiled, run.train.output_dir, communicator.rank(), compute_device(run.train)),
        checkpoints_(run, model),
        trainer_(run, model, communicator),
        state_(started(options.resume)) {
    if (communicator_.is_root()) open_records();
    if (!run.data.validation.empty()) open_validation(model);
  }

  int run() {
    if (state_.step >= run_.train.steps) {
      log::info("the run is complete: {} steps; raise train.steps to go on", state_.step);
      return 0;
    }
    last_save_ = Clock::now();
    while (state_.step < run_.train.steps) {
      const auto start = Clock::now();
      enter("step", step_limit_.seconds());
      profile_.before_step(state_.step + 1);
      const StepResult result = trainer_.step();
      const double seconds = seconds_since(start);
      state_ = trainer_.state();
      profile_.after_step(state_.step, finished());
      seconds_ += seconds;
      step_limit_.took(seconds);
      if (log_) log_->step(result, state_, seconds);
      stop_on_numerics(result);
      if (is_due(state_.step, run_.train.validate_every) || finished()) validate();
      if (is_due(state_.step, run_.train.sample_every)) sample();
      enter("agreement after a step", step_limit_.seconds());
      if (is_due(state_.step, run_.parallel.check_weights_every)) compare_weights();
      faults_.at_step_end(state_.step);
      const StepNotes agreed = finished() ? StepNotes{} : trainer_.exchange(own_notes());
      if (agreed.stop_rank >= 0) {
        save();
        end_records();
        log::info("stopped by {} after step {}; the same command goes on from there",
                  describe_signal(agreed.stop_rank), state_.step);
        return static_cast<int>(ErrorKind::kStopped);
      }
      if (finished() || is_due(state_.step, run_.checkpoint.every) || agreed.save_due) save();
    }
    end_records();
    return 0;
  }

 private:
  void enter(const char* phase, double seconds) { watchdog_.enter(phase, state_.step, seconds); }

  // All ranks leave together, the others when rank 0 has written its last.
  void end_records() {
    watchdog_.finish(state_.step, run_.parallel.save_seconds);
    if (report_) report_->finish();
    communicator_.barrier();
  }

  // Rank 0 reads the checkpoint, the others get what it read.
  const TrainerState& started(const std::string& resume) {
    watchdog_.enter("start", 0, run_.parallel.start_seconds);
    if (communicator_.world_size() > 1) require_same_start(resume);
    if (communicator_.is_root()) checkpoints_.start(trainer_, resume);
    trainer_.share();
    return trainer_.state();
  }

  void require_same_start(const std::string& resume) {
    std::vector<AgreedPart> parts = {{"the program", program_fingerprint()}, {"--resume", resume}};
    const Json sections = to_json(run_);
    for (const auto& [name, section] : sections.items()) {
      parts.push_back({"the config's section " + name, section.dump()});
    }
    parts.push_back({"the training data", fmt::format("{:016x}", trainer_.state().data_fingerprint)});
    require_agreement(communicator_, parts);
  }

  void open_records() {
    const std::filesystem::path directory = run_.train.output_dir;
    log_ = std::make_unique<TrainingLog>(run_, directory, state_, trainer_.flops_per_token());
    report_ = std::make_unique<LiveReport>(directory);
    write_file_atomically(directory / "run.json", dump_json(to_json(run_)), ErrorKind::kCheckpoint);
    if (!run_.data.tokenizer.empty()) tokenizer_ = std::make_unique<Tokenizer>(run_.data.tokenizer);
  }

  StepNotes own_notes() const {
    StepNotes notes;
    if (signal_.requested()) notes.stop_rank = communicator_.rank();
    notes.save_due = minutes_passed();
    return notes;
  }

  std::string describe_signal(int rank) const {
    if (signal_.requested()) return signal_.name();
    return "a signal to " + communicator_.world().name_of(rank);
  }

  bool finished() const { return state_.step >= run_.train.steps; }

  bool minutes_passed() const {
    return run_.checkpoint.every_minutes > 0 &&
           seconds_since(last_save_) > 60 * run_.checkpoint.every_minutes;
  }

  void open_validation(const ModelConfig& model) {
    std::vector<std::filesystem::path> paths;
    for (const DataSource& source : run_.data.validation) {
      for (const auto& path : expand_sources(source.path)) paths.push_back(path);
    }
    validation_ = std::make_unique<TokenStream>(paths);
    validation_->check_vocabulary(model.vocab_size);
  }

  void validate() {
    if (!validation_ || run_.train.validate_every == 0) return;
    enter("validation", run_.parallel.validate_seconds);
    const ValidationResult result = validate_together();
    if (!communicator_.is_root()) return;
    log_->validation(state_.step, result.loss, result.tokens);
    report_->refresh();
  }

  // Each rank scores its part of the windows.
  ValidationResult validate_together() {
    const int64_t length = run_.train.sequence_length, ranks = communicator_.world_size();
    const int64_t windows = std::min(run_.train.validate_sequences,
                                     std::max<int64_t>(1, window_count(validation_->size(), length)));
    const int64_t first = windows * communicator_.rank() / ranks;
    const int64_t end = windows * (communicator_.rank() + 1) / ranks;
    const auto mine = sluice::validate(trainer_.model(), *validation_, length, end - first, first);
    if (ranks == 1) return mine;
    ValidationResult whole;
    for (const ValidationResult& part : communicator_.all_gather(mine)) {
      whole.loss += part.loss * static_cast<double>(part.tokens);
      whole.tokens += part.tokens;
    }
    whole.loss /= static_cast<double>(whole.tokens);
    return whole;
  }

  void sample() {
    enter("samples", run_.parallel.validate_seconds);
    if (communicator_.is_root()) write_samples();
    communicator_.barrier();
  }

  void write_samples() {
    SamplingOptions options;
    options.choice.temperature = run_.train.sample_temperature;
    options.seed = run_.train.seed;
    options.max_tokens = run_.train.sample_tokens;
    for (const std::string& prompt : run_.train.sample_prompts) {
      log_->sample(state_.step, prompt, sample_text(trainer_.model(), *tokenizer_, prompt, options));
      ++options.stream;
    }
  }

  void compare_weights() {
    if (communicator_.world_size() == 1) return;
    const auto start = Clock::now();
    trainer_.require_equal_weights();
    if (log_) log_->weights_compared(state_.step, seconds_since(start));
  }

  void save() {
    enter("checkpoint", run_.parallel.save_seconds);
    if (communicator_.is_root()) {
      log_->sync();
      state_.log_bytes = log_->log_bytes();
      state_.timing_bytes = log_->timing_bytes();
      state_.seconds += std::exchange(seconds_, 0.0);
      checkpoints_.save(trainer_, state_);
      report_->refresh();
    } else {
      RunCheckpoints::assist(trainer_);
    }
    // The others may be about to end, and with them the job.
    communicator_.barrier();
    last_save_ = Clock::now();
  }

  void stop_on_numerics(const StepResult& result) {
    if (!result.skipped) return;
    const bool at_limit = state_.skipped_in_a_row >= run_.train.nonfinite_limit;
    if (run_.train.nonfinite != "stop" && !at_limit) return;
    save();
    end_records();
    SLUICE_FAIL(
        kNumerics,
        "step {}: loss {} and gradient norm {}; {} steps in a row were not finite (train.nonfinite \"{}\", "
        "limit {}). The weights before them are saved; lower optimizer.lr or look at the data",
        result.step, result.loss, result.gradient_norm, state_.skipped_in_a_row, run_.train.nonfinite,
        run_.train.nonfinite_limit);
  }

  RunConfig run_;
  Communicator& communicator_;
  Watchdog watchdog_;
  StepLimit step_limit_;
  StepProfile profile_;
  StopSignal signal_;
  RunCheckpoints checkpoints_;
  Trainer trainer_;
  TrainerState state_;
  // What is kept of the run, by rank 0 alone.
  std::unique_ptr<TrainingLog> log_;
  std::unique_ptr<LiveReport> report_;
  FaultPlan faults_ = FaultPlan::from_environment();
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<TokenStream> validation_;
  Clock::time_point last_save_;
  double seconds_ = 0;  // trained since the last save
};

}  // namespace

int run_training(const RunConfig& run, const ModelConfig& model, const StartOptions& options,
                 Communicator& communicator) {
  return RunLoop(run, model, options, communicator).run();
}

}  // namespace sluice
