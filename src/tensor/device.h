// The device all work of this process runs on, and the order it runs in: one stream, so that memory a tensor
// gave back may be used again at once by whatever comes after. The CPU needs none of it and waits for
// nothing.
#pragma once

#include "tensor/allocator.h"

struct CUstream_st;

namespace sluice {

// The stream of kernels and copies; null on the CPU. Created with the first use of a GPU.
CUstream_st* compute_stream(Device device);

// Waits until the device has done all it was given. Errors of kernels that ran show here.
void synchronize(Device device);

// Whether this build and machine can compute on the device; `why_not` says what is missing.
bool is_available(Device device, std::string* why_not = nullptr);

// Chooses the GPU of this process; before its first use.
void select_gpu(int index);

}  // namespace sluice
