#include "train/batch_feed.h"

#include <algorithm>

#include "train/trainer.h"

namespace sluice {
namespace {

int64_t values_of_global_batch(const RunConfig& run) {
  const TrainConfig& train = run.train;
  return 2 * accumulation_steps(run) * train.micro_batch_sequences * train.sequence_length /
         run.parallel.sequence;
}

}  // namespace

BatchFeed::BatchFeed(Loader& loader, const RunConfig& run, Device device,
                     std::shared_ptr<const ops::SequencePart> part)
    : loader_(loader),
      train_(run.train),
      accumulation_(accumulation_steps(run)),
      reset_at_documents_(run.data.reset_state_at_document),
      part_(std::move(part)),
      device_(device),
      uniform_(ops::SequenceLayout::uniform(
          run.train.micro_batch_sequences,
          run.train.sequence_length / run.train.segments / run.parallel.sequence)),
      host_{PinnedArray(values_of_global_batch(run), device),
            PinnedArray(values_of_global_batch(run), device)},
      staged_(Tensor::empty(Shape{values_of_global_batch(run)}, DType::kI32, device)) {
  if (part_ != nullptr) {
    uniform_.part = part_;
    uniform_.before.assign(static_cast<size_t>(uniform_.slots), part_->index() * uniform_.longest());
  }
  uniform_.indices();
}

const GlobalBatch& BatchFeed::current() {
  if (!has_current_) advance();
  return current_;
}

void BatchFeed::advance() {
  current_ = stage();
  has_current_ = true;
}

void BatchFeed::seek(int64_t cursor) {
  loader_.seek(cursor);
  has_current_ = false;
}

GlobalBatch BatchFeed::stage() {
  GlobalBatch global;
  int64_t used = 0;
  for (int64_t i = 0; i < accumulation_; ++i) {
    const Batch batch = loader_.next();
    MicroBatch micro_batch;
    // Of the segments of a sequence all are this process's, of the parts one.
    const int64_t cuts = part_ != nullptr ? part_->count() : train_.segments;
    const int64_t first = part_ != nullptr ? part_->index() : 0, end = part_ != nullptr ? first + 1 : cuts;
    for (int64_t index = first; index < end; ++index) {
      Segment segment = cut_segment(batch, index, cuts, reset_at_documents_);
      global.labels += count_labels(segment);
      segment.tokens = place(segment.tokens, used);
      segment.labels = place(segment.labels, used);
      if (!reset_at_documents_) {
        segment.layout = uniform_;
      } else if (part_ != nullptr) {
        segment.layout.part = part_;
        segment.layout.before = tokens_since_document_start(batch, part_->index() * batch.length / cuts);
      }
      micro_batch.push_back(std::move(segment));
    }
    global.micro_batches.push_back(std::move(micro_batch));
    global.tokens += batch.rows * batch.length;
    global.cursor_after = batch.cursor_after;
  }
  host_[filling_].copy_to(staged_);
  filling_ = 1 - filling_;
  return global;
}

// Puts values behind those used so far and returns where they will be on the device.
Tensor BatchFeed::place(const Tensor& values, int64_t& used) const {
  const int64_t count = values.numel();
  std::copy_n(values.data<int32_t>(), count, host_[filling_].values().begin() + used);
  used += count;
  return staged_.narrow(0, used - count, count);
}

}  // namespace sluice
