#include "optim/parameter_arena.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/sha256.h"

namespace sluice {
namespace {

// Enough to overlap their reduction with backward, each large enough for the network, and not so many that
// launches count.
constexpr int64_t kLeastBuckets = 4, kMostBuckets = 64;
constexpr int64_t kBucketBytes = int64_t{25} << 20;

// Every entry starts at a multiple of this many elements: whole cache lines and vectors in every dtype.
constexpr int64_t kAlignment = 64;

Tensor zeros_of(MemoryClass memory_class, int64_t elements, DType dtype, Device device) {
  const MemoryClassScope memory(memory_class);
  return Tensor::zeros({elements}, dtype, device);
}

}  // namespace

ParameterArena::ParameterArena(const std::vector<ArenaEntry>& entries, DType dtype, Device device,
                               ArenaShards shards)
    : entries_(entries), ranges_(entries.size()), shards_(shards) {
  SLUICE_ASSERT(shards.count >= 1 && shards.mine >= 0 && shards.mine < shards.count);
  SLUICE_CHECK(device == Device::kCuda ? dtype == DType::kBF16 || dtype == DType::kF32
                                       : dtype == DType::kF32 || dtype == DType::kF64,
               kInternal, "no parameter arena in {} on {}", name_of(dtype), name_of(device));
  for (size_t i = entries.size(); i-- > 0;) {
    ranges_[i] = {elements_, elements_ + entries[i].shape.numel(), entries[i].decayed};
    elements_ = (ranges_[i].end + kAlignment - 1) / kAlignment * kAlignment;
  }
  const DType master = dtype == DType::kBF16 ? DType::kF32 : dtype;
  if (shards.count > 1) pad_to_buckets(size_of(master));
  const int64_t kept = elements_ / shards.count;  // of moments and master weights
  weights_ = zeros_of(MemoryClass::kWeights, elements_, dtype, device);
  master_weights_ = dtype == master ? weights_ : zeros_of(MemoryClass::kWeights, kept, master, device);
  gradients_ = zeros_of(MemoryClass::kGradients, elements_, master, device);
  first_moments_ = zeros_of(MemoryClass::kOptimizer, kept, master, device);
  second_moments_ = zeros_of(MemoryClass::kOptimizer, kept, master, device);
}

// Slices start at the alignment, too.
void ParameterArena::pad_to_buckets(int64_t width) {
  const auto parts = [](int64_t whole, int64_t part) { return (whole + part - 1) / part; };
  const int64_t unit = kAlignment * shards_.count;
  buckets_ = std::clamp(parts(elements_ * width, kBucketBytes), kLeastBuckets, kMostBuckets);
  const int64_t bucket = parts(parts(elements_, buckets_), unit) * unit;
  buckets_ = std::max<int64_t>(1, parts(elements_, bucket));
  elements_ = buckets_ * bucket;
}

Tensor ParameterArena::bucket(const Tensor& flat, int64_t b) const {
  SLUICE_ASSERT(flat.numel() == elements_);
  return flat.narrow(0, b * bucket_elements(), bucket_elements());
}

Tensor ParameterArena::slices(const Tensor& flat, int shard) const {
  SLUICE_ASSERT(flat.numel() == elements_);
  return flat.view({buckets_, bucket_elements()}).columns(shard * slice_elements(), slice_elements());
}

std::string ParameterArena::layout_fingerprint() const {
  std::string text;
  for (size_t i = 0; i < entries_.size(); ++i)
    text += fmt::format("{} {} {}\n", entries_[i].name, entries_[i].shape.to_string(), ranges_[i].begin);
  return sha256_hex(std::as_bytes(std::span(text)));
}

void ParameterArena::refresh_weights() const {
  if (!weights_.same_view(master_weights_)) weights_.copy_from(master_weights_);
}

Tensor ParameterArena::view(const Tensor& flat, size_t i) const {
  const Range& range = ranges_.at(i);
  SLUICE_ASSERT(flat.numel() == elements_);
  return flat.narrow(0, range.begin, range.end - range.begin).view(entries_[i].shape);
}

}  // namespace sluice
