#include "core/profile_range.h"

#include <atomic>
#include <chrono>

#ifdef SLUICE_HAVE_CUDA
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>
#endif

namespace sluice {
namespace {

std::atomic<ProfileListener*> listener{nullptr};

}  // namespace

ProfileRange::ProfileRange(const char* name)
    : name_(name), begin_(listener.load(std::memory_order_relaxed) != nullptr ? profile_clock() : 0) {
#ifdef SLUICE_HAVE_CUDA
  nvtxRangePushA(name);
#endif
}

ProfileRange::~ProfileRange() {
#ifdef SLUICE_HAVE_CUDA
  nvtxRangePop();
#endif
  if (begin_ == 0) return;
  if (ProfileListener* hears = listener.load(std::memory_order_acquire)) {
    hears->range_ended(name_, begin_, profile_clock());
  }
}

void listen_to_ranges(ProfileListener* to) { listener.store(to, std::memory_order_release); }

int64_t profile_clock() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

#ifdef SLUICE_HAVE_CUDA
void start_profiler() { cudaProfilerStart(); }
void stop_profiler() { cudaProfilerStop(); }
#else
void start_profiler() {}
void stop_profiler() {}
#endif

}  // namespace sluice
