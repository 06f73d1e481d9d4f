// The size of a grid that fills the current device. For kernels whose results do not depend on it.
#pragma once

#include <cuda_runtime_api.h>

#include "core/cuda_check.h"

namespace sluice::kernels {

inline int multiprocessors() {
  static const int count = [] {
    int device = 0, value = 0;
    SLUICE_CUDA_CHECK(cudaGetDevice(&device));
    SLUICE_CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device));
    return value;
  }();
  return count;
}

}  // namespace sluice::kernels
