#include "core/profile_range.h"

#ifdef SLUICE_HAVE_CUDA
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>
#endif

namespace sluice {

#ifdef SLUICE_HAVE_CUDA
ProfileRange::ProfileRange(const char* name) { nvtxRangePushA(name); }
ProfileRange::~ProfileRange() { nvtxRangePop(); }
void start_profiler() { cudaProfilerStart(); }
void stop_profiler() { cudaProfilerStop(); }
#else
void start_profiler() {}
void stop_profiler() {}
#endif

}  // namespace sluice
