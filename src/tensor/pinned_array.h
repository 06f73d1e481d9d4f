// Host memory that a GPU copies from while the host goes on; plain memory in a build without CUDA.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace sluice {

class PinnedArray {
 public:
  explicit PinnedArray(int64_t count, Device device);
  ~PinnedArray();
  PinnedArray(const PinnedArray&) = delete;
  PinnedArray& operator=(const PinnedArray&) = delete;

  std::span<int32_t> values() const { return {values_, static_cast<size_t>(count_)}; }
  // Enqueues the copy of the first to.numel() values into a dense i32 tensor. The values must stay until the
  // device has come so far.
  void copy_to(const Tensor& to) const;

 private:
  int32_t* values_ = nullptr;
  int64_t count_ = 0;
  Device device_;
};

}  // namespace sluice
