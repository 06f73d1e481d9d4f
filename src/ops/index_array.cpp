#include "ops/index_array.h"

#include <algorithm>

namespace sluice::ops {

IndexArray::IndexArray(std::vector<int64_t> values) : shared_(std::make_shared<Shared>()) {
  for (size_t i = 1; i < values.size(); ++i) {
    shared_->longest = std::max(shared_->longest, values[i] - values[i - 1]);
  }
  shared_->values = std::move(values);
}

const int64_t* IndexArray::on(Device device) const {
  if (device == Device::kCpu) return shared_->values.data();
  if (!shared_->uploaded.defined()) {
    // Tensors know no 64-bit integers; pairs of 32-bit ones are the same bytes.
    static_assert(sizeof(int64_t) == 2 * sizeof(int32_t));
    const auto* words = reinterpret_cast<const int32_t*>(shared_->values.data());
    shared_->uploaded =
        Tensor::from(Shape{2 * size()}, std::vector<int32_t>(words, words + 2 * size())).to(device);
  }
  return static_cast<const int64_t*>(shared_->uploaded.raw_data());
}

}  // namespace sluice::ops
