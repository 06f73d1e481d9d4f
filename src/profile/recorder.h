// Records a timeline of this process.
//
//   TimelineRecorder recorder(true);   // before the first CUDA graph is made
//   recorder.start();
//   ... two steps ...
//   const Timeline timeline = recorder.stop(2);
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "profile/timeline.h"

namespace sluice::profile {

class TimelineRecorder {
 public:
  // With `gpu`, makes it keep records from here on, which slows the launch of kernels a little. One at a
  // time.
  explicit TimelineRecorder(bool gpu);
  ~TimelineRecorder();
  TimelineRecorder(const TimelineRecorder&) = delete;
  TimelineRecorder& operator=(const TimelineRecorder&) = delete;

  // Why nothing of the GPU will be recorded, or "".
  const std::string& no_device() const;

  void start();
  // Ends the recording, and waits for the GPU. At most once.
  Timeline stop(int64_t steps);

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace sluice::profile
