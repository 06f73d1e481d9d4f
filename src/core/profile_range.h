// A named stretch of time for profilers (NVTX: Nsight Systems and Compute show it). Costs nothing measurable
// when nobody looks, and nothing at all in a build without CUDA.
#pragma once

namespace sluice {

class ProfileRange {
 public:
#ifdef SLUICE_HAVE_CUDA
  explicit ProfileRange(const char* name);
  ~ProfileRange();
#else
  explicit ProfileRange(const char*) {}
  ~ProfileRange() {}
#endif
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
};

// Tells a profiler that was started to wait for it that the interesting part begins or ends.
void start_profiler();
void stop_profiler();

}  // namespace sluice
