// Runs micro steps (forward and backward of one micro batch), from the second one on by replaying a recording
// of the first, where shapes are static and the device is a GPU. Same bits either way.
#pragma once

#include <functional>

#include "tensor/device_graph.h"
#include "train/batch_feed.h"

namespace sluice {

class MicroStepGraph {
 public:
  // The work: adds a micro batch's gradients and loss to where they are kept; its loss is a mean over
  // `labels`.
  using MicroStep = std::function<void(const MicroBatch& batch, double labels)>;

  MicroStepGraph(bool enabled, MicroStep micro_step)
      : enabled_(enabled), micro_step_(std::move(micro_step)) {}

  void run(const MicroBatch& batch, double labels);

 private:
  bool enabled_;
  MicroStep micro_step_;
  DeviceGraph graph_;
  MicroBatch inputs_;           // what the recording reads
  double recorded_labels_ = 0;  // what it divides by
  int recordings_ = 0;
};

}  // namespace sluice
