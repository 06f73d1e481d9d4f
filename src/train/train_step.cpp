// The flow of one training step.
#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "optim/schedule.h"
#include "train/segment.h"
#include "train/trainer.h"

namespace sluice {
namespace {

// A fault for tests: one gradient that is no number.
void poison(const Tensor& gradients) {
  dispatch_compute(gradients.dtype(), "poison",
                   [&]<class T>() { gradients.data<T>()[0] = std::numeric_limits<T>::quiet_NaN(); });
}

}  // namespace

StepResult Trainer::step() {
  const std::vector<Batch> batches = next_global_batch();
  // The mean is over all labels of the global batch, so micro batches with fewer labels weigh less.
  const auto labels = static_cast<double>(std::max<int64_t>(1, count_labels(batches)));

  arena_->zero_gradients();
  StepResult result;
  for (const Batch& batch : batches) {
    result.loss += forward_backward(batch, labels);
    result.tokens += batch.rows * batch.length;
  }
  if (faults_.nan_at(state_.step + 1)) poison(arena_->gradients());

  result.step = state_.step + 1;
  result.gradient_norm = gradient_norm(*arena_);
  result.learning_rate = learning_rate(run_.schedule, run_.optimizer.lr, state_.step, run_.train.steps);
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.gradient_norm);
  if (!result.skipped) {
    optimizer_->step(result.learning_rate, clipping_factor(result.gradient_norm, run_.optimizer.grad_clip));
  }

  state_.step = result.step;
  state_.tokens += result.tokens;
  state_.cursor = loader_->cursor();
  state_.updates = optimizer_->updates();
  state_.skipped += result.skipped ? 1 : 0;
  state_.skipped_in_a_row = result.skipped ? state_.skipped_in_a_row + 1 : 0;
  return result;
}

// Adds the gradients of one micro batch to the arena and returns its part of the loss. With several segments
// each is differentiated by itself, and only the state's numbers pass from one to the next.
double Trainer::forward_backward(const Batch& batch, double labels) {
  const int64_t segments = run_.train.segments;
  ModelState state;
  if (segments > 1) state = model_->make_state(batch.rows);
  double loss = 0;
  for (int64_t index = 0; index < segments; ++index) {
    const Segment segment = cut_segment(batch, index, segments, run_.data.reset_state_at_document);
    const Variable hidden = model_->forward(segment.tokens, segment.layout, segments > 1 ? &state : nullptr,
                                            run_.train.recompute == Recompute::kLayer);
    const Variable segment_loss = model_->loss(hidden, segment.labels, {kIgnoredLabel, labels});
    loss += segment_loss.value().item();
    backward(segment_loss);
    state.detach();
  }
  return loss;
}

std::vector<Batch> Trainer::next_global_batch() {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < accumulation_steps(run_.train); ++i) batches.push_back(loader_->next());
  return batches;
}

}  // namespace sluice
