// The GPUs this machine offers, and whether code built here runs on them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::kernels {

struct CudaDevice {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  bool runs_our_code = false;  // a kernel of this build was launched and gave the right answer
};

// False in a build without nvcc.
bool built_with_cuda();
// Empty where there is no GPU, no driver or no CUDA build.
std::vector<CudaDevice> cuda_devices();

}  // namespace sluice::kernels
