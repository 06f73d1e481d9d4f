#include "train/micro_step_graph.h"

#include "core/log.h"

namespace sluice {
namespace {

// The number of labels is part of a recording. Data in which it keeps changing is better run as it is.
constexpr int kMostRecordings = 8;

Tensor same_shape(const Tensor& tensor) {
  return Tensor::empty(tensor.shape(), tensor.dtype(), tensor.device());
}

}  // namespace

void MicroStepGraph::run(const MicroBatch& batch, double labels) {
  if (!enabled_) return micro_step_(batch, labels);
  if (inputs_.empty()) {
    // The first one runs as it is: products find their algorithms, index arrays are uploaded, memory is
    // mapped.
    micro_step_(batch, labels);
    for (const Segment& segment : batch) {
      inputs_.push_back({same_shape(segment.tokens), same_shape(segment.labels), segment.layout});
    }
    return;
  }
  if (!graph_.recorded() || labels != recorded_labels_) {
    if (++recordings_ > kMostRecordings) {
      log::info(
          "train.cuda_graph: the number of labels changes from batch to batch; going on without a graph");
      enabled_ = false;
      graph_.clear();
      return micro_step_(batch, labels);
    }
    graph_.record([&] { micro_step_(inputs_, labels); });
    recorded_labels_ = labels;
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    inputs_[i].tokens.copy_from(batch[i].tokens);
    inputs_[i].labels.copy_from(batch[i].labels);
  }
  graph_.replay();
}

}  // namespace sluice
