#include <cstring>

#include "core/cuda_check.h"
#include "tensor/device.h"
#include "tensor/pinned_array.h"

namespace sluice {

PinnedArray::PinnedArray(int64_t count, Device device) : count_(count), device_(device) {
  if (device == Device::kCpu) {
    values_ = new int32_t[static_cast<size_t>(count)];
  } else {
    void* memory = nullptr;
    SLUICE_CUDA_CHECK(cudaMallocHost(&memory, static_cast<size_t>(count) * sizeof(int32_t)));
    values_ = static_cast<int32_t*>(memory);
  }
}

PinnedArray::~PinnedArray() {
  if (device_ == Device::kCpu) {
    delete[] values_;
  } else {
    cudaFreeHost(values_);
  }
}

void PinnedArray::copy_to(const Tensor& to) const {
  SLUICE_ASSERT(to.is_contiguous() && to.dtype() == DType::kI32 && to.numel() <= count_);
  const auto bytes = static_cast<size_t>(to.bytes());
  if (to.device() == Device::kCpu) {
    std::memcpy(to.raw_data(), values_, bytes);
  } else {
    SLUICE_CUDA_CHECK(
        cudaMemcpyAsync(to.raw_data(), values_, bytes, cudaMemcpyHostToDevice, compute_stream(to.device())));
  }
}

}  // namespace sluice
