#include "train/step_profile.h"

#include <utility>

#include "core/file.h"
#include "core/log.h"
#include "core/profile_range.h"
#include "profile/timeline_summary.h"
#include "profile/trace_file.h"

namespace sluice {

StepProfile::StepProfile(const StepRange& steps, std::filesystem::path directory, int rank, Device device)
    : steps_(steps), directory_(std::move(directory)), rank_(rank) {
  if (!steps_.empty()) recorder_ = std::make_unique<profile::TimelineRecorder>(device == Device::kCuda);
}

void StepProfile::before_step(int64_t step) {
  // A run may go on from a step inside the range.
  if (recorder_ == nullptr || first_ > 0 || step < steps_.begin || step >= steps_.end) return;
  first_ = step;
  recorder_->start();
  start_profiler();
}

void StepProfile::after_step(int64_t step, bool last) {
  if (recorder_ == nullptr || first_ == 0 || (!last && step + 1 < steps_.end)) return;
  stop_profiler();
  const profile::Timeline timeline = recorder_->stop(step + 1 - first_);
  recorder_.reset();
  write(timeline);
}

void StepProfile::write(const profile::Timeline& timeline) const {
  const std::string stem = rank_ == 0 ? "timeline" : fmt::format("timeline_rank{}", rank_);
  const std::string table = to_table(timeline, summarize(timeline));
  create_directories(directory_, ErrorKind::kCheckpoint);
  const auto trace = directory_ / (stem + ".json");
  write_file_atomically(trace, to_chrome_trace(timeline, rank_), ErrorKind::kCheckpoint);
  write_file_atomically(directory_ / (stem + ".txt"), table, ErrorKind::kCheckpoint);
  log::info("timeline of steps {} to {} in {} (https://ui.perfetto.dev opens it)\n{}", first_,
            first_ + timeline.steps - 1, trace.string(), table);
}

}  // namespace sluice
