// What happened in a stretch of time: work on the GPU by stream, and ranges on the host. Plain data; whoever
// recorded it (recorder.h) and whoever reads it (timeline_summary.h, trace_file.h) share nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::profile {

struct DeviceWork {
  enum class Kind { kKernel, kCopy, kFill };
  Kind kind = Kind::kKernel;
  std::string name;  // "gla_forward<256, 512>", "copy to the GPU"
  std::string full_name;
  int64_t begin = 0, end = 0;  // nanoseconds of std::chrono::steady_clock
  uint32_t stream = 0;
  int64_t bytes = 0;        // of copies and fills
  bool of_graph = false;    // launched by a recorded graph
  bool collective = false;  // a kernel that exchanges data with other GPUs
};

struct HostRange {
  const char* name = "";
  int64_t begin = 0, end = 0;  // as above
  int thread = 0;              // from 0, in the order in which threads first told of a range
};

struct Timeline {
  int64_t begin = 0, end = 0;  // the stretch
  int64_t steps = 1;           // training steps in it
  std::vector<DeviceWork> device;
  std::vector<HostRange> host;
  int64_t lost = 0;       // records of work for which there was no room
  std::string no_device;  // why nothing of a GPU was recorded, or ""
};

}  // namespace sluice::profile
