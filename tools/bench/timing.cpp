#include "timing.h"

#include <algorithm>
#include <chrono>

namespace sluice::bench {

Timing time_repeated(const std::function<void()>& work, int warmup, int repeats) {
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < warmup; ++i) work();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return summarize(std::move(seconds));
}

Timing summarize(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

}  // namespace sluice::bench
