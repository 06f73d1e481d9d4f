#include "dist/watchdog.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/log.h"
#include "core/progress.h"

namespace sluice {
namespace {

using std::chrono::seconds;

constexpr auto kLook = std::chrono::milliseconds(250);
// Ranks that wait for one that hangs are over their time together: each is to say where it is.
constexpr auto kForOthersToSpeak = seconds(1);
// A rank that sees a lost connection in its own call has more to say than the watchdog.
constexpr auto kForTheCallToFail = seconds(2);
// Telling the launcher may itself hang, over a network that is cut.
constexpr auto kForAbort = seconds(8);

}  // namespace

Watchdog::Watchdog(Communicator& communicator, End end)
    : communicator_(communicator), end_(std::move(end)), entered_(Clock::now()) {
  if (!end_) end_ = [&communicator](int exit_code) { communicator.abort(exit_code); };
  if (communicator.world_size() == 1) return;
  thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

Watchdog::~Watchdog() = default;

void Watchdog::enter(const char* phase, int64_t step, double seconds) { set(phase, step, seconds, true); }

void Watchdog::finish(int64_t step, double seconds) { set("end of the run", step, seconds, false); }

void Watchdog::set(const char* phase, int64_t step, double seconds, bool watch_connection) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  step_ = step;
  seconds_ = seconds;
  watch_connection_ = watch_connection;
  entered_ = Clock::now();
}

void Watchdog::watch(const std::stop_token& stop) {
  const auto stopped_within = [&](auto duration) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, stop, duration, [] { return false; }) || stop.stop_requested();
  };
  while (!stopped_within(kLook)) {
    std::unique_lock lock(mutex_);
    const bool late = seconds_ > 0 && Clock::now() - entered_ > std::chrono::duration<double>(seconds_);
    const std::string where = fmt::format("{}: step {}, phase \"{}\"",
                                          communicator_.world().name_of(communicator_.rank()), step_, phase_);
    const double limit = seconds_;
    const bool watch_connection = watch_connection_;
    lock.unlock();
    const std::string failure = late || !watch_connection ? "" : communicator_.failure();
    if (!late && failure.empty()) continue;
    Progress::clear_line();
    if (late) {
      log::error(
          "watchdog: {} is not done after {} s; last collective: {}; ending the job with exit code 124",
          where, limit, communicator_.last_collective());
      if (stopped_within(kForOthersToSpeak)) return;
      return end(static_cast<int>(ErrorKind::kWatchdog));
    }
    if (stopped_within(kForTheCallToFail)) return;
    log::error("watchdog: {}: {}; last collective: {}; ending the job", where, failure,
               communicator_.last_collective());
    return end(static_cast<int>(ErrorKind::kInternal));
  }
}

void Watchdog::end(int exit_code) {
  std::thread([exit_code] {
    std::this_thread::sleep_for(kForAbort);
    std::_Exit(exit_code);
  }).detach();
  end_(exit_code);
}

void StepLimit::took(double seconds) {
  newest_.push_back(seconds);
  if (newest_.size() > kNewest) newest_.pop_front();
}

double StepLimit::seconds() const {
  if (newest_.empty()) return first_;
  if (least_ == 0) return 0;
  std::vector<double> sorted(newest_.begin(), newest_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return std::max(least_, kTimesMedian * *middle);
}

}  // namespace sluice
