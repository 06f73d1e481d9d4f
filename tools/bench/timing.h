// Repeated timing of one piece of work.
#pragma once

#include <functional>
#include <vector>

#include "tensor/allocator.h"

namespace sluice::bench {

struct Timing {
  double median = 0, fastest = 0, slowest = 0;  // seconds
};

// `warmup` untimed calls, then `repeats` timed ones.
Timing time_repeated(const std::function<void()>& work, int warmup, int repeats,
                     Device device = Device::kCpu);
Timing summarize(std::vector<double> seconds);

}  // namespace sluice::bench
