// SIGTERM, SIGINT and SIGUSR1 as a request to save and stop. The first of each kind is only noted; another
// one of the same kind does what it does by default, which ends the process at once (exit status 128 + number
// in a shell), when it comes kRepeatSeconds later or more. Sooner it is the same request: timeout(1), for
// one, sends its signal to the process and then to the group the process is in.
#pragma once

namespace sluice {

constexpr double kRepeatSeconds = 1.0;

// The earlier handlers are put back with the end of the last object; all see the same signal. For one thread.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const;
  const char* name() const;  // of the first signal that came, "SIGTERM"; "" before
};

}  // namespace sluice
