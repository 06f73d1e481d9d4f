// What tensors ask of a GPU, in a build without CUDA.
#include <cstring>

#include "core/error.h"
#include "tensor/cuda_allocator.h"
#include "tensor/cuda_copy.h"
#include "tensor/device.h"
#include "tensor/device_graph.h"
#include "tensor/pinned_array.h"

namespace sluice {
namespace {
[[noreturn]] void missing() {
  SLUICE_FAIL(kUsage,
              "this build has no CUDA backend (no nvcc was found when it was configured); use the CPU");
}
}  // namespace

CUstream_st* compute_stream(Device device) {
  if (device != Device::kCpu) missing();
  return nullptr;
}
void synchronize(Device device) {
  if (device != Device::kCpu) missing();
}
bool is_available(Device device, std::string* why_not) {
  if (device != Device::kCpu && why_not != nullptr) *why_not = "this build has no CUDA backend";
  return device == Device::kCpu;
}
void select_gpu(int) { missing(); }
Allocator& cuda_allocator() { missing(); }

struct DeviceGraph::Recording {};
DeviceGraph::DeviceGraph() = default;
DeviceGraph::~DeviceGraph() = default;
void DeviceGraph::record(const std::function<void()>&) { missing(); }
void DeviceGraph::replay() const { missing(); }
void DeviceGraph::on_host(std::function<void()> work) { work(); }
void DeviceGraph::clear() { recording_.reset(); }

PinnedArray::PinnedArray(int64_t count, Device device)
    : values_(new int32_t[static_cast<size_t>(count)]), count_(count), device_(device) {}
PinnedArray::~PinnedArray() { delete[] values_; }
void PinnedArray::copy_to(const Tensor& to) const {
  SLUICE_ASSERT(to.is_contiguous() && to.dtype() == DType::kI32 && to.numel() <= count_ &&
                device_ == Device::kCpu);
  std::memcpy(to.raw_data(), values_, static_cast<size_t>(to.bytes()));
}

namespace cuda {
void copy(const Tensor&, const Tensor&) { missing(); }
void add(const Tensor&, const Tensor&) { missing(); }
void fill_zero(const Tensor&) { missing(); }
}  // namespace cuda

}  // namespace sluice
