// The counters of a run. With the weights, the moments and the run's config they are all of its state: data
// order, learning rate and random numbers are functions of them.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

struct TrainerState {
  int64_t step = 0;     // steps finished, skipped ones included: the number of the next step
  int64_t tokens = 0;   // trained on so far
  int64_t cursor = 0;   // of the loader: training sequences consumed
  int64_t updates = 0;  // of the optimizer
  int64_t skipped = 0;  // steps whose gradients were not finite, in all
  int64_t skipped_in_a_row = 0;
  int64_t log_bytes = 0;          // size of log.jsonl when saved; what lies beyond is cut off on resume
  int64_t timing_bytes = 0;       // the same of timing.jsonl
  double seconds = 0;             // spent training, over all processes that worked on the run
  uint64_t data_fingerprint = 0;  // of the training data, to notice that it changed
};

}  // namespace sluice
