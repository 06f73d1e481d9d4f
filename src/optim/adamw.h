// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) over a parameter arena, with
// clipping by the global norm. Whether and how far a step goes is decided on the device, from numbers that
// are there: the host does not wait between backward and update.
#pragma once

#include "optim/parameter_arena.h"

namespace sluice {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // of the entries that decay
  double clip_norm = 0;       // gradients are scaled to at most this 2-norm; 0: never
};

// What one step did.
struct UpdateReport {
  double gradient_norm = 0;  // before clipping; NaN when a gradient is not finite
  bool skipped = false;      // loss or norm was not finite: weights and moments are as before
};

class AdamW {
 public:
  AdamW(ParameterArena& arena, const AdamWOptions& options);

  // One update with the arena's gradients, unless they or `loss` (a scalar in the master weights' dtype) are
  // not finite. Only enqueues work on a GPU.
  void step(double learning_rate, const Tensor& loss) {
    measure();
    update(learning_rate, loss);
  }
  // The two parts of a step. Ranks that share the optimizer's state add their squared_norm() in between: both
  // parts are about the own slices alone.
  void measure() { sum_squares(arena_.slices(arena_.gradients(), arena_.shards().mine)); }
  const Tensor& squared_norm() const { return squared_norm_; }  // f64 [1]
  void update(double learning_rate, const Tensor& loss);
  // What the last step did; waits for the device.
  UpdateReport report() const;

  // Updates made, skipped steps not counted: the t of the bias corrections. Part of a checkpoint. Waits.
  int64_t updates() const;
  void set_updates(int64_t updates);

  // The number of NaN and infinite elements of a flat buffer of the arena; waits.
  int64_t count_non_finite(const Tensor& buffer) const;

 private:
  void sum_squares(const Tensor& rows) const;
  int64_t first_of(int64_t bucket) const;  // element of the flat buffers where this rank's slice begins

  ParameterArena& arena_;
  AdamWOptions options_;
  std::vector<int64_t> first_segment_;  // [buckets + 1]
  // Small structures in device memory, each a tensor of as many bytes.
  Tensor segments_;      // kernels::AdamWSegment [segments of all buckets]
  Tensor squared_norm_;  // double [1]
  Tensor non_finite_;    // int64 [1]
  Tensor updates_;       // int64 [1]
  Tensor control_;       // kernels::UpdateControl [1]
};

}  // namespace sluice
