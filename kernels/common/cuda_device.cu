#include <cuda_runtime.h>

#include "kernels/common/cuda_device.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 64;

__global__ void write_indices(int* out) { out[threadIdx.x] = static_cast<int>(threadIdx.x); }

// Whether the binary holds code for the current device.
bool runs_our_code() {
  int* device = nullptr;
  if (cudaMalloc(&device, THREADS * sizeof(int)) != cudaSuccess) return false;
  write_indices<<<1, THREADS>>>(device);
  int host[THREADS] = {};
  const bool ran = cudaGetLastError() == cudaSuccess &&
                   cudaMemcpy(host, device, sizeof(host), cudaMemcpyDeviceToHost) == cudaSuccess;
  cudaFree(device);
  for (int i = 0; ran && i < THREADS; ++i) {
    if (host[i] != i) return false;
  }
  return ran;
}

}  // namespace

bool built_with_cuda() { return true; }

std::vector<CudaDevice> cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<CudaDevice> devices;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess || cudaSetDevice(index) != cudaSuccess)
      continue;
    CudaDevice device;
    device.index = index;
    device.name = properties.name;
    device.major = properties.major;
    device.minor = properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    device.runs_our_code = runs_our_code();
    devices.push_back(device);
  }
  return devices;
}

}  // namespace sluice::kernels
