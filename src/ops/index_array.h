// An array of indices that the host makes and kernels read: uploaded to a GPU once, when first asked for
// there. Copies share the array.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace sluice::ops {

class IndexArray {
 public:
  IndexArray() : IndexArray(std::vector<int64_t>()) {}
  IndexArray(std::vector<int64_t> values);  // NOLINT: a vector is one

  const std::vector<int64_t>& host() const { return shared_->values; }
  int64_t size() const { return static_cast<int64_t>(host().size()); }
  int64_t operator[](int64_t i) const { return host()[static_cast<size_t>(i)]; }
  // The array in the device's memory; valid while a copy of this object lives.
  const int64_t* on(Device device) const;
  // The largest difference of neighbours: of offsets, the longest stretch.
  int64_t longest() const { return shared_->longest; }

 private:
  struct Shared {
    std::vector<int64_t> values;
    int64_t longest = 0;
    Tensor uploaded;  // the values' bytes
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace sluice::ops
