// Device memory for kernel tests: filled with values rounded to T, or with NaN where a kernel is to write.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/bfloat16.h"
#include "core/cuda_check.h"

namespace sluice::test {

template <class T>
T rounded_to(double value) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
double widened(T value) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return to_float(value);
  } else {
    return static_cast<double>(value);
  }
}

// The values as a kernel in T sees them: what the double twin is to be given.
template <class T>
std::vector<double> as_seen_in(const std::vector<double>& values) {
  std::vector<double> seen;
  for (const double value : values) seen.push_back(widened(rounded_to<T>(value)));
  return seen;
}

template <class T>
class DeviceArray {
 public:
  // Poisoned: every byte 0xff, which is NaN in the floating types and -1 in integers.
  explicit DeviceArray(size_t count) : count_(count) {
    SLUICE_CUDA_CHECK(cudaMalloc(&pointer_, bytes() + 1));
    SLUICE_CUDA_CHECK(cudaMemset(pointer_, 0xff, bytes()));
  }
  template <class U>
  explicit DeviceArray(const std::vector<U>& values) : DeviceArray(values.size()) {
    std::vector<T> host;
    host.reserve(values.size());
    for (const U& value : values) {
      if constexpr (std::is_same_v<T, U>) {
        host.push_back(value);
      } else {
        host.push_back(rounded_to<T>(static_cast<double>(value)));
      }
    }
    SLUICE_CUDA_CHECK(cudaMemcpy(pointer_, host.data(), bytes(), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(pointer_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return static_cast<T*>(pointer_); }
  size_t size() const { return count_; }

  // Waits for the device.
  std::vector<T> to_host() const {
    std::vector<T> host(count_);
    SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
    SLUICE_CUDA_CHECK(cudaMemcpy(host.data(), pointer_, bytes(), cudaMemcpyDeviceToHost));
    return host;
  }
  std::vector<double> to_doubles() const {
    std::vector<double> doubles;
    for (const T value : to_host()) doubles.push_back(widened(value));
    return doubles;
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }
  size_t count_;
  void* pointer_ = nullptr;
};

}  // namespace sluice::test
