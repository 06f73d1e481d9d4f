// A named stretch of time for profilers: NVTX, which Nsight Systems and Compute show, and whoever listens in
// this process (profile/recorder.h). Costs nothing measurable when nobody looks.
#pragma once

#include <cstdint>

namespace sluice {

class ProfileRange {
 public:
  // `name` lives as long as the program.
  explicit ProfileRange(const char* name);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const char* name_;
  int64_t begin_;  // 0: nobody listened
};

// Hears of every range when it ends, in the thread it was in.
class ProfileListener {
 public:
  virtual ~ProfileListener() = default;
  virtual void range_ended(const char* name, int64_t begin, int64_t end) = 0;
};

// From now on, in place of any other; null: nobody. Not while other threads are inside a range.
void listen_to_ranges(ProfileListener* listener);

// Nanoseconds of std::chrono::steady_clock, which ranges are measured by.
int64_t profile_clock();

// Tells a profiler that was started to wait for it that the interesting part begins or ends.
void start_profiler();
void stop_profiler();

}  // namespace sluice
