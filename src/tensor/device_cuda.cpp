#include "core/cuda_check.h"
#include "tensor/device.h"

namespace sluice {
namespace {

int gpu_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

cudaStream_t create_stream() {
  cudaStream_t stream = nullptr;
  SLUICE_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

}  // namespace

CUstream_st* compute_stream(Device device) {
  if (device == Device::kCpu) return nullptr;
  static const cudaStream_t stream = create_stream();
  return stream;
}

void synchronize(Device device) {
  if (device == Device::kCpu) return;
  SLUICE_CUDA_CHECK(cudaStreamSynchronize(compute_stream(device)));
}

bool is_available(Device device, std::string* why_not) {
  if (device == Device::kCpu) return true;
  static const int count = gpu_count();
  if (count == 0 && why_not != nullptr) *why_not = "no GPU with a working driver was found";
  return count > 0;
}

void select_gpu(int index) { SLUICE_CUDA_CHECK(cudaSetDevice(index)); }

}  // namespace sluice
