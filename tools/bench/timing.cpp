#include "timing.h"

#include <algorithm>
#include <chrono>

#include "tensor/device.h"

namespace sluice::bench {

Timing time_repeated(const std::function<void()>& work, int warmup, int repeats, Device device) {
  using Clock = std::chrono::steady_clock;
  const auto timed = [&](int calls) {
    synchronize(device);
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) work();
    synchronize(device);
    return std::chrono::duration<double>(Clock::now() - start).count() / calls;
  };
  for (int i = 0; i < warmup; ++i) work();
  // Waiting for a GPU costs some microseconds, which must not show in what is timed.
  constexpr double kLeastSeconds = 2e-3;
  const int calls =
      device == Device::kCpu ? 1 : std::clamp(static_cast<int>(kLeastSeconds / timed(1)) + 1, 1, 100);
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) seconds.push_back(timed(calls));
  return summarize(std::move(seconds));
}

Timing summarize(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

}  // namespace sluice::bench
