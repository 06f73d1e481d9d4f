// The flow of one training step.
#include <limits>

#include "autograd/backward.h"
#include "autograd/saved_tensor.h"
#include "core/profile_range.h"
#include "optim/schedule.h"
#include "train/trainer.h"

namespace sluice {
namespace {

// A fault for tests: one gradient that is no number.
void poison(const Tensor& gradients) {
  const Tensor nan = Tensor::from<float>(Shape{1}, {std::numeric_limits<float>::quiet_NaN()});
  gradients.narrow(0, 0, 1).copy_from(nan.to(gradients.dtype()));
}

}  // namespace

StepResult Trainer::step() {
  const ProfileRange range("step");
  const GlobalBatch& batch = feed_->current();
  StepResult result;
  result.step = state_.step + 1;
  result.tokens = batch.tokens;
  result.learning_rate = learning_rate(run_.schedule, run_.optimizer.lr, state_.step, run_.train.steps);

  arena_->zero_gradients();
  loss_.fill_zero();
  for (const MicroBatch& micro_batch : batch.micro_batches) {
    // The mean is over all labels of the global batch, so micro batches with fewer labels weigh less.
    micro_steps_->run(micro_batch, static_cast<double>(std::max<int64_t>(1, batch.labels)));
  }
  if (faults_.nan_at(result.step)) poison(arena_->gradients());
  optimizer_->step(result.learning_rate, loss_);
  state_.cursor = batch.cursor_after;

  // Everything is enqueued. What follows overlaps with it until the loss is read.
  feed_->advance();
  const UpdateReport update = optimizer_->report();
  result.loss = loss_.item();
  result.gradient_norm = update.gradient_norm;
  result.skipped = update.skipped;

  state_.step = result.step;
  state_.tokens += result.tokens;
  state_.updates += result.skipped ? 0 : 1;
  state_.skipped += result.skipped ? 1 : 0;
  state_.skipped_in_a_row = result.skipped ? state_.skipped_in_a_row + 1 : 0;
  return result;
}

// Adds a micro batch's gradients to the arena and its part of the loss to loss_. With several segments each
// is differentiated by itself, and only the state's numbers pass from one to the next.
void Trainer::forward_backward(const MicroBatch& micro_batch, double labels) {
  const SelectiveRecomputeScope selective(run_.train.recompute == Recompute::kSelective);
  const bool carried = micro_batch.size() > 1;
  ModelState state;
  if (carried) state = model_->make_state(run_.train.micro_batch_sequences);
  for (const Segment& segment : micro_batch) {
    const Variable hidden = model_->forward(segment.tokens, segment.layout, carried ? &state : nullptr,
                                            run_.train.recompute == Recompute::kLayer);
    const Variable loss = model_->loss(hidden, segment.labels, {kIgnoredLabel, labels});
    loss_.add_from(loss.value());
    backward({loss}, {one_});
    state.detach();
  }
}

}  // namespace sluice
