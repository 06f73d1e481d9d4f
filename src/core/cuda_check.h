// Errors of the CUDA runtime as Error(kInternal), or Error(kOutOfMemory) where memory ran out. For files that
// are part of a CUDA build only.
#pragma once

#include <cuda_runtime_api.h>

#include "core/error.h"

#define SLUICE_CUDA_CHECK(call)                                                   \
  do {                                                                            \
    const cudaError_t status_ = (call);                                           \
    SLUICE_CHECK(status_ == cudaSuccess, kInternal, "CUDA: {} failed: {}", #call, \
                 cudaGetErrorString(status_));                                    \
  } while (false)

// After a kernel launch: bad launch parameters. What goes wrong while it runs shows at a later call.
#define SLUICE_CHECK_LAUNCH(kernel)                                                          \
  do {                                                                                       \
    const cudaError_t status_ = cudaGetLastError();                                          \
    SLUICE_CHECK(status_ == cudaSuccess, kInternal, "CUDA: launch of {} failed: {}", kernel, \
                 cudaGetErrorString(status_));                                               \
  } while (false)
