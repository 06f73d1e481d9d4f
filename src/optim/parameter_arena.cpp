#include "optim/parameter_arena.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/sha256.h"
#include "tensor/launch.h"

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
  const DType master = accumulate_dtype(dtype);
  if (shards.count > 1) pad_to_buckets(size_of(master));
  const int64_t kept = elements_ / shards.count;  // of moments and master weights
  weights_ = zeros_of(MemoryClass::kWeights, elements_, dtype, device);
  master_weights_ = dtype == master ? weights_ : zeros_of(MemoryClass::kWeights, kept, master, device);
  gradients_ = zeros_of(MemoryClass::kGradients, elements_, master, device);
  first_moments_ = zeros_of(MemoryClass::kOptimizer, kept, master, device);
  second_moments_ = zeros_of(MemoryClass::kOptimizer, kept, master, device);
  if (!has_whole_masters()) place_exact_weights();
}

void ParameterArena::place_exact_weights() {
  int64_t count = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    exact_begin_.push_back(count);
    if (entries_[i].exact) count += (entries_[i].shape.numel() + kAlignment - 1) / kAlignment * kAlignment;
  }
  exact_weights_ = zeros_of(MemoryClass::kWeights, count, master_weights_.dtype(), master_weights_.device());
}

Tensor ParameterArena::weight(size_t i) const {
  const ArenaEntry& entry = entries_.at(i);
  if (!entry.exact) return view(weights_, i);
  if (has_whole_masters()) return master_weight(i);
  return exact_weights_.narrow(0, exact_begin_[i], entry.shape.numel()).view(entry.shape);
}

void ParameterArena::put_own_exact_weights() const {
  exact_weights_.fill_zero();
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].exact) continue;
    const Range& range = ranges_[i];
    for (int64_t b = range.begin / bucket_elements(); b * bucket_elements() < range.end; ++b) {
      const int64_t slice = b * bucket_elements() + shards_.mine * slice_elements();
      const int64_t begin = std::max(range.begin, slice), end = std::min(range.end, slice + slice_elements());
      if (begin >= end) continue;
      exact_weights_.narrow(0, exact_begin_[i] + begin - range.begin, end - begin)
          .copy_from(master_weights_.narrow(0, b * slice_elements() + begin - slice, end - begin));
    }
  }
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
