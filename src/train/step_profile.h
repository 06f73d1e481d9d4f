// What `train --profile-steps a:b` does: tells waiting profilers when steps a to b - 1 run, and records a
// timeline of them, into timeline.json (Perfetto) and timeline.txt (a table) of the run's directory; for
// other ranks than the first into timeline_rank1.json and so on.
#pragma once

#include <filesystem>
#include <memory>

#include "profile/recorder.h"
#include "tensor/device.h"

namespace sluice {

// Steps begin to end - 1, counted from 1; none by default.
struct StepRange {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

class StepProfile {
 public:
  // Before anything uses a GPU: what was recorded as a graph earlier is not seen inside.
  StepProfile(const StepRange& steps, std::filesystem::path directory, int rank, Device device);

  void before_step(int64_t step);
  // With `last`, also ends what would go on behind it. Error(kCheckpoint) when a file cannot be written.
  void after_step(int64_t step, bool last);

 private:
  void write(const profile::Timeline& timeline) const;

  StepRange steps_;
  std::filesystem::path directory_;
  int rank_;
  std::unique_ptr<profile::TimelineRecorder> recorder_;  // until it was used
  int64_t first_ = 0;                                    // step of the recording under way
};

}  // namespace sluice
