#include "dist/gradient_reducer.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace sluice {

GradientReducer::GradientReducer(Communicator& communicator, Tensor gradients,
                                 const std::vector<Range>& parameters, int64_t bucket_bytes)
    : communicator_(communicator),
      gradients_(std::move(gradients)),
      bucket_of_(parameters.size()),
      ready_(parameters.size()) {
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return parameters[a].begin < parameters[b].begin; });
  const int64_t width = size_of(gradients_.dtype());
  for (const size_t i : order) {
    const Range& range = parameters[i];
    SLUICE_ASSERT(buckets_.empty() || range.begin >= buckets_.back().end);
    SLUICE_ASSERT(range.end <= gradients_.numel());
    if (buckets_.empty() || (buckets_.back().end - buckets_.back().begin) * width >= bucket_bytes) {
      buckets_.push_back({range.begin, range.end});
    }
    buckets_.back().end = range.end;
    ++buckets_.back().parameters;
    bucket_of_[i] = buckets_.size() - 1;
  }
}

void GradientReducer::arm() {
  if (communicator_.world_size() == 1) return;
  std::fill(ready_.begin(), ready_.end(), false);
  for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters;
  next_ = 0;
  armed_ = true;
}

void GradientReducer::mark_ready(size_t parameter) {
  if (!armed_ || ready_[parameter]) return;
  ready_[parameter] = true;
  --buckets_[bucket_of_[parameter]].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start(buckets_[next_++]);
}

void GradientReducer::flush() {
  if (communicator_.world_size() == 1) return;
  SLUICE_ASSERT(armed_);
  // A parameter that the loss does not depend on is never marked.
  while (next_ < buckets_.size()) start(buckets_[next_++]);
  armed_ = false;
}

void GradientReducer::start(const Bucket& bucket) {
  communicator_.start_all_reduce_sum(gradients_.narrow(0, bucket.begin, bucket.end - bucket.begin));
}

}  // namespace sluice
