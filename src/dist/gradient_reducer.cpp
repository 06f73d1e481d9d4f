#include "dist/gradient_reducer.h"

#include <algorithm>

#include "core/error.h"
#include "tensor/device_graph.h"

namespace sluice {

GradientReducer::GradientReducer(Communicator& communicator, Tensor gradients,
                                 const std::vector<Range>& parameters, int64_t bucket_elements, Result result)
    : communicator_(communicator),
      gradients_(std::move(gradients)),
      result_(result),
      ready_(parameters.size()) {
  const int64_t elements = gradients_.numel();
  SLUICE_ASSERT(bucket_elements > 0);
  SLUICE_ASSERT(result == Result::kAll ||
                (elements % bucket_elements == 0 && bucket_elements % communicator.world_size() == 0));
  for (int64_t begin = 0; begin < elements; begin += bucket_elements)
    buckets_.push_back({begin, std::min(elements, begin + bucket_elements)});
  for (const Range& range : parameters) {
    SLUICE_ASSERT(range.begin >= 0 && range.begin < range.end && range.end <= elements);
    buckets_of_.push_back({range.begin / bucket_elements, (range.end - 1) / bucket_elements + 1});
    for (int64_t i = buckets_of_.back().begin; i < buckets_of_.back().end; ++i)
      ++buckets_[static_cast<size_t>(i)].parameters;
  }
}

void GradientReducer::arm() {
  if (communicator_.world_size() == 1) return;
  std::fill(ready_.begin(), ready_.end(), false);
  for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters;
  next_ = 0;
  armed_ = true;
  DeviceGraph::on_host([this] {
    next_ = 0;
    armed_ = true;
  });
}

void GradientReducer::mark_ready(size_t parameter) {
  if (!armed_ || ready_[parameter]) return;
  ready_[parameter] = true;
  const Range& in = buckets_of_[parameter];
  for (int64_t i = in.begin; i < in.end; ++i) --buckets_[static_cast<size_t>(i)].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start(next_);
}

void GradientReducer::flush() {
  if (communicator_.world_size() == 1) return;
  SLUICE_ASSERT(armed_);
  // A parameter that the loss does not depend on is never marked.
  while (next_ < buckets_.size()) start(next_);
  armed_ = false;
}

void GradientReducer::start(size_t bucket) {
  next_ = bucket + 1;
  DeviceGraph::on_host([this, bucket] {
    next_ = bucket + 1;
    send(buckets_[bucket]);
  });
}

void GradientReducer::send(const Bucket& bucket) {
  const Tensor gradients = gradients_.narrow(0, bucket.begin, bucket.end - bucket.begin);
  if (result_ == Result::kAll) {
    communicator_.start_all_reduce_sum(gradients);
  } else {
    communicator_.start_reduce_scatter_sum(gradients);
  }
}

}  // namespace sluice
