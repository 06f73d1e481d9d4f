#include "optim/parameter_arena.h"

#include "core/error.h"

namespace sluice {
namespace {

// Every entry starts at a multiple of this many elements: whole cache lines and vectors in every dtype.
constexpr int64_t kAlignment = 64;

Tensor zeros_of(MemoryClass memory_class, int64_t elements, DType dtype, Device device) {
  const MemoryClassScope memory(memory_class);
  return Tensor::zeros({elements}, dtype, device);
}

}  // namespace

ParameterArena::ParameterArena(const std::vector<ArenaEntry>& entries, DType dtype, Device device)
    : entries_(entries), ranges_(entries.size()) {
  SLUICE_CHECK(device == Device::kCuda ? dtype == DType::kBF16 || dtype == DType::kF32
                                       : dtype == DType::kF32 || dtype == DType::kF64,
               kInternal, "no parameter arena in {} on {}", name_of(dtype), name_of(device));
  for (size_t i = entries.size(); i-- > 0;) {
    ranges_[i] = {elements_, elements_ + entries[i].shape.numel(), entries[i].decayed};
    elements_ = (ranges_[i].end + kAlignment - 1) / kAlignment * kAlignment;
  }
  const DType master = dtype == DType::kBF16 ? DType::kF32 : dtype;
  weights_ = zeros_of(MemoryClass::kWeights, elements_, dtype, device);
  master_weights_ = dtype == master ? weights_ : zeros_of(MemoryClass::kWeights, elements_, master, device);
  gradients_ = zeros_of(MemoryClass::kGradients, elements_, master, device);
  first_moments_ = zeros_of(MemoryClass::kOptimizer, elements_, master, device);
  second_moments_ = zeros_of(MemoryClass::kOptimizer, elements_, master, device);
}

void ParameterArena::refresh_weights() const {
  if (!weights_.same_view(master_weights_)) weights_.copy_from(master_weights_);
}

Tensor ParameterArena::view(const Tensor& flat, size_t i) const {
  const Range& range = ranges_.at(i);
  return flat.narrow(0, range.begin, range.end - range.begin).view(entries_[i].shape);
}

}  // namespace sluice
