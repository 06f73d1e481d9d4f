// Records what a GPU does. One implementation: CUPTI's activity records (cupti_tracer.cpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "profile/timeline.h"

namespace sluice::profile {

class DeviceTracer {
 public:
  virtual ~DeviceTracer() = default;
  // Everything of this process that began since the tracer was made or since the last call, and how much of
  // it was lost. Waits for the GPU.
  virtual std::vector<DeviceWork> take(int64_t& lost) = 0;
};

// Null where this build, machine or moment has none; `why_not` says so. Graphs recorded before it is made are
// not seen inside.
std::unique_ptr<DeviceTracer> make_device_tracer(std::string& why_not);

}  // namespace sluice::profile
