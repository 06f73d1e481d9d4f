#include "optim/adamw.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/optim/adamw.h"
#include "kernels/optim/squared_norm.h"
#include "kernels/optim/update_control.h"
#include "tensor/launch.h"

namespace sluice {
namespace {

// `count` structures of type S as a tensor: tensors know no such types, 32-bit words hold any.
template <class S>
Tensor structures(const S* values, size_t count, Device device) {
  static_assert(std::is_trivially_copyable_v<S> && sizeof(S) % sizeof(int32_t) == 0);
  std::vector<int32_t> words(count * sizeof(S) / sizeof(int32_t));
  std::memcpy(words.data(), values, count * sizeof(S));
  const MemoryClassScope memory(MemoryClass::kOptimizer);
  return Tensor::from(Shape{static_cast<int64_t>(words.size())}, words).to(device);
}
template <class S>
Tensor structure(const S& value, Device device) {
  return structures(&value, 1, device);
}

template <class S>
S* pointer_to(const Tensor& tensor) {
  return static_cast<S*>(tensor.raw_data());
}

template <class S>
S read(const Tensor& tensor) {
  const std::vector<int32_t> words = tensor.to_vector<int32_t>();
  S value;
  std::memcpy(static_cast<void*>(&value), words.data(), sizeof(S));
  return value;
}

}  // namespace

AdamW::AdamW(ParameterArena& arena, const AdamWOptions& options) : arena_(arena), options_(options) {
  const Device device = arena.weights().device();
  std::vector<kernels::AdamWSegment> segments;
  const int64_t slice = arena.slice_elements();
  for (int64_t bucket = 0; bucket < arena.buckets(); ++bucket) {
    first_segment_.push_back(static_cast<int64_t>(segments.size()));
    const int64_t first = first_of(bucket);
    // In the order of memory, which kernels search.
    for (size_t i = arena.ranges().size(); i-- > 0;) {
      const ParameterArena::Range& range = arena.ranges()[i];
      const int64_t begin = std::max(range.begin - first, int64_t{0}),
                    end = std::min(range.end - first, slice);
      if (begin < end) segments.push_back({begin, end, range.decayed ? options.weight_decay : 0.0});
    }
  }
  first_segment_.push_back(static_cast<int64_t>(segments.size()));
  if (segments.empty()) segments.emplace_back();  // slices of padding alone
  segments_ = structures(segments.data(), segments.size(), device);
  {
    const MemoryClassScope memory(MemoryClass::kOptimizer);
    squared_norm_ = Tensor::zeros({1}, DType::kF64, device);
  }
  non_finite_ = structure(int64_t{0}, device);
  updates_ = structure(int64_t{0}, device);
  control_ = structure(kernels::UpdateControl{}, device);
}

void AdamW::sum_squares(const Tensor& rows) const {
  dispatch_floating(rows.dtype(), "squared_norm", [&]<class T>() {
    if constexpr (!std::is_same_v<T, bfloat16>) {
      kernels::SquaredNormParams<T> p;
      p.count = rows.numel();
      p.x = rows.data<T>();
      p.part = rows.shape()[1], p.stride = rows.row_stride();
      p.sum = squared_norm_.data<double>();
      p.non_finite = pointer_to<int64_t>(non_finite_);
      SLUICE_LAUNCH_WITH_SCRATCH(T, rows.device(), squared_norm, p);
    }
  });
}

int64_t AdamW::first_of(int64_t bucket) const {
  return bucket * arena_.bucket_elements() + arena_.shards().mine * arena_.slice_elements();
}

void AdamW::update(double learning_rate, const Tensor& loss) {
  const Device device = arena_.weights().device();
  dispatch_floating(arena_.master_weights().dtype(), "adamw", [&]<class T>() {
    if constexpr (!std::is_same_v<T, bfloat16>) {
      kernels::UpdateControlParams<T> decide;
      decide.squared_norm = squared_norm_.data<double>();
      decide.non_finite = pointer_to<int64_t>(non_finite_);
      decide.loss = loss.data<T>();
      decide.clip_limit = options_.clip_norm;
      decide.beta1 = options_.beta1, decide.beta2 = options_.beta2;
      decide.updates = pointer_to<int64_t>(updates_);
      decide.control = pointer_to<kernels::UpdateControl>(control_);
      SLUICE_LAUNCH(T, device, update_control, decide);
      for (int64_t bucket = 0; bucket < arena_.buckets(); ++bucket) {
        const int64_t flat = first_of(bucket), kept = bucket * arena_.slice_elements();
        const bool rounds = arena_.weights().dtype() == DType::kBF16;
        kernels::AdamWParams<T> p;
        p.weight = arena_.master_weights().data<T>() + (arena_.has_whole_masters() ? flat : kept);
        p.compute_weight = rounds ? arena_.weights().data<bfloat16>() + flat : nullptr;
        p.gradient = arena_.gradients().data<T>() + flat;
        p.m = arena_.first_moments().data<T>() + kept;
        p.v = arena_.second_moments().data<T>() + kept;
        const int64_t first = first_segment_[static_cast<size_t>(bucket)];
        p.segments = pointer_to<kernels::AdamWSegment>(segments_) + first;
        p.segment_count = first_segment_[static_cast<size_t>(bucket) + 1] - first;
        p.lr = learning_rate;
        p.beta1 = options_.beta1, p.beta2 = options_.beta2, p.eps = options_.eps;
        p.control = pointer_to<kernels::UpdateControl>(control_);
        SLUICE_LAUNCH(T, device, adamw, p);
      }
    }
  });
}

UpdateReport AdamW::report() const {
  const auto control = read<kernels::UpdateControl>(control_);
  return {control.gradient_norm, control.skip != 0};
}

int64_t AdamW::updates() const { return read<int64_t>(updates_); }

void AdamW::set_updates(int64_t updates) { updates_.copy_from(structure(updates, updates_.device())); }

int64_t AdamW::count_non_finite(const Tensor& buffer) const {
  sum_squares(buffer.view({1, buffer.numel()}));
  return read<int64_t>(non_finite_);
}

}  // namespace sluice
