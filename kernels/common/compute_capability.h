// What the current device runs.
#pragma once

#include <cuda_runtime_api.h>

namespace sluice::kernels {

// Whether that is code for sm_90a, whose instructions no other architecture has. False without a device.
inline bool runs_sm90a() {
  static const bool runs = [] {
    int device = 0, major = 0, minor = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
           major == 9 && minor == 0;
  }();
  return runs;
}

}  // namespace sluice::kernels
