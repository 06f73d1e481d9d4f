// Global batches where the model computes: the next one is read and on its way to the device while the device
// works on the current one.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "config/run_config.h"
#include "data/loader.h"
#include "ops/sequence_part.h"
#include "tensor/pinned_array.h"
#include "train/segment.h"

namespace sluice {

// The segments of one micro batch, in order.
using MicroBatch = std::vector<Segment>;

// This process's part of one.
struct GlobalBatch {
  std::vector<MicroBatch> micro_batches;
  int64_t labels = 0;        // that count in the loss
  int64_t tokens = 0;        // of whole sequences
  int64_t cursor_after = 0;  // of the loader, once this batch is trained on, by all ranks
};

class BatchFeed {
 public:
  // With `part`, this process's part of each sequence.
  BatchFeed(Loader& loader, const RunConfig& run, Device device,
            std::shared_ptr<const ops::SequencePart> part = nullptr);

  // The batch that is due; the same until advance().
  const GlobalBatch& current();
  // Drops the current batch and stages the next. What reads the current one may still be running, but the
  // device must have finished with the one before.
  void advance();
  // Goes on from a cursor of the loader.
  void seek(int64_t cursor);

 private:
  GlobalBatch stage();
  Tensor place(const Tensor& values, int64_t& used) const;

  Loader& loader_;
  const TrainConfig& train_;
  int64_t accumulation_;
  bool reset_at_documents_;
  std::shared_ptr<const ops::SequencePart> part_;
  Device device_;
  // Rows of equal length, which most batches are made of: one object, so that what is derived from it is made
  // once.
  ops::SequenceLayout uniform_;
  // Tokens and labels of a global batch: one array is filled while the other may still be copied from.
  std::array<PinnedArray, 2> host_;
  size_t filling_ = 0;
  Tensor staged_;  // the same on the device
  GlobalBatch current_;
  bool has_current_ = false;
};

}  // namespace sluice
