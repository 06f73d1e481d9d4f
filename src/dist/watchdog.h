// Ends a job that hangs. Each rank says which phase it is in and how long that may take at most; when the
// time is over, or the connection to another rank is gone, a thread beside says where the rank is and ends
// all processes. A rank that waits for another one cannot do that itself.
//
//   Watchdog watchdog(communicator);
//   watchdog.enter("step", 812, 100);
//   ...
//   watchdog.enter("checkpoint", 812, 600);
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "dist/communicator.h"

namespace sluice {

class Watchdog {
 public:
  // Ends the job with an exit code; may return in tests.
  using End = std::function<void(int exit_code)>;

  // With one process it does nothing: nobody waits for it. `end` is communicator.abort unless given.
  explicit Watchdog(Communicator& communicator, End end = {});
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From now on this rank is in `phase`, a text that lives for ever, for at most `seconds`; 0: for ever. When
  // they are over the rank's name, step, phase and last collective are printed and the job ends with 124.
  void enter(const char* phase, int64_t step, double seconds);
  // The last phase: other ranks may end before this one, so that connections are no longer looked at.
  void finish(int64_t step, double seconds);

 private:
  using Clock = std::chrono::steady_clock;
  void set(const char* phase, int64_t step, double seconds, bool watch_connection);
  void watch(const std::stop_token& stop);
  void end(int exit_code);

  Communicator& communicator_;
  End end_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  const char* phase_ = "start";
  int64_t step_ = 0;
  double seconds_ = 0;
  Clock::time_point entered_;
  bool watch_connection_ = true;
  std::jthread thread_;  // last: gone before what it reads
};

// How long a step may take: a bound of its own for the first one, which sets up what later ones use; then
// `least`, or 20 times the median of the newest steps where that is longer. 0: for ever.
class StepLimit {
 public:
  StepLimit(double first, double least) : first_(first), least_(least) {}
  void took(double seconds);
  double seconds() const;

 private:
  static constexpr double kTimesMedian = 20;
  static constexpr size_t kNewest = 63;

  double first_, least_;
  std::deque<double> newest_;
};

}  // namespace sluice
