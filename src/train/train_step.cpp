// The flow of one training step.
#include <limits>

#include "autograd/backward.h"
#include "autograd/saved_tensor.h"
#include "core/profile_range.h"
#include "optim/schedule.h"
#include "train/trainer.h"

namespace sluice {
namespace {

void set_scalar(const Tensor& scalar, float value) {
  scalar.copy_from(Tensor::from<float>(Shape{}, {value}).to(scalar.dtype()));
}

// A fault for tests: the lowest bit of a weight.
void flip_a_bit(const Tensor& weights) {
  const Tensor values = weights.to(Device::kCpu).clone();
  *static_cast<uint8_t*>(values.raw_data()) ^= 1;
  weights.copy_from(values);
}

}  // namespace

StepResult Trainer::step() {
  const ProfileRange range("step");
  const GlobalBatch& batch = feed_->current();
  StepResult result;
  result.step = state_.step + 1;
  result.tokens = batch.tokens * run_.parallel.data_ranks();
  result.learning_rate = learning_rate(run_.schedule, run_.optimizer.lr, state_.step, run_.train.steps);

  const double labels = labels_of_step();

  if (!one_micro_batch_) arena_->zero_gradients();
  loss_.fill_zero();
  const bool poisoned = faults_.nan_at(result.step);
  if (poisoned) set_scalar(one_, std::numeric_limits<float>::quiet_NaN());
  const bool alone = communicator_.world_size() == 1;
  const size_t recordable = batch.micro_batches.size() - (alone ? 0 : 1);
  for (size_t i = 0; i < recordable; ++i) micro_steps_->run(batch.micro_batches[i], labels);
  if (!alone) {
    last_micro_steps_->run(batch.micro_batches.back(), labels);
    reduce_gradients();
  }
  // From here on all ranks have the same loss and gradients, or the same norm of them, and so do the same.
  {
    const ProfileRange update("update");
    if (arena_->has_whole_moments()) {
      optimizer_->step(result.learning_rate, loss_);
    } else {
      optimizer_->update(result.learning_rate, loss_);
      start_gathering_weights();
    }
  }
  if (poisoned) set_scalar(one_, 1.0f);
  if (faults_.flip_at(result.step)) {
    settle_weights();
    flip_a_bit(model_->parameters().front()->variable().value());
  }
  state_.cursor = batch.cursor_after;

  // Everything is enqueued. What follows overlaps with it until the loss is read.
  feed_->advance();
  labels_.reset();
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

// Sends what backward has not sent yet, and waits for the sums.
void Trainer::reduce_gradients() {
  const ProfileRange range("sum over ranks");
  reducer_->flush();
  communicator_.start_all_reduce_sum(loss_);
  communicator_.wait();
  if (arena_->has_whole_moments()) return;
  optimizer_->measure();
  communicator_.all_reduce_sum(optimizer_->squared_norm());
}

// Every rank updated its slices. The next forward pass waits for a bucket when it gets there: in its order,
// which is the arena's from the end.
void Trainer::start_gathering_weights() {
  // First, since they lie among all buckets: whoever waits for any bucket has them.
  if (arena_->exact_weights().defined()) {
    arena_->put_own_exact_weights();
    communicator_.start_all_reduce_sum(arena_->exact_weights());
  }
  for (int64_t b = arena_->buckets(); b-- > 0;) {
    communicator_.start_all_gather(arena_->bucket(arena_->weights(), b));
    gathered_[static_cast<size_t>(b)] = communicator_.mark();
  }
  awaited_ = arena_->buckets();
}

void Trainer::await_weights(const ParameterArena::Range& range) const {
  const int64_t bucket = range.begin / arena_->bucket_elements();
  if (bucket >= awaited_) return;
  awaited_ = bucket;
  DeviceGraph::on_host([this, bucket] { communicator_.wait_for(gathered_[static_cast<size_t>(bucket)]); });
}

void Trainer::settle_weights() const {
  if (awaited_ > 0) communicator_.wait();
  awaited_ = 0;
}

StepNotes Trainer::exchange(const StepNotes& mine) {
  struct Message {
    int64_t labels;
    StepNotes notes;
  };
  const auto all = communicator_.all_gather(Message{feed_->current().labels, mine});
  StepNotes agreed;
  agreed.save_due = all[0].notes.save_due;
  labels_ = 0;
  for (const Message& message : all) {
    *labels_ += message.labels;
    if (agreed.stop_rank < 0) agreed.stop_rank = message.notes.stop_rank;
  }
  return agreed;
}

// The mean is over all labels of the global batch, so micro batches and ranks with fewer labels weigh less.
double Trainer::labels_of_step() {
  if (!labels_) exchange({});
  return static_cast<double>(std::max<int64_t>(1, *labels_));
}

// Adds a micro batch's gradients to the arena and its part of the loss to loss_. With several segments each
// is differentiated by itself, and only the state's numbers pass from one to the next. The last backward pass
// of the step completes gradients, which `completes` then sends. A step's only micro batch writes over the
// gradients of the step before.
void Trainer::forward_backward(const MicroBatch& micro_batch, double labels, GradientReducer* completes) {
  const SelectiveRecomputeScope selective(run_.train.recompute == Recompute::kSelective);
  const bool carried = micro_batch.size() > 1;
  // A recording must wait wherever a replay may have to.
  if (!gathered_.empty()) awaited_ = arena_->buckets();
  const auto parameters = model_->parameters();
  if (one_micro_batch_) {
    for (const nn::Parameter* parameter : parameters) parameter->restart_gradient();
  }
  ModelState state;
  if (carried) state = model_->make_state(run_.train.micro_batch_sequences);
  for (const Segment& segment : micro_batch) {
    const Variable loss = [&] {
      const ProfileRange range("forward");
      const Variable hidden = model_->forward(segment.tokens, segment.layout, carried ? &state : nullptr,
                                              run_.train.recompute == Recompute::kLayer);
      return model_->loss(hidden, segment.labels, {kIgnoredLabel, labels});
    }();
    loss_.add_from(loss.value());
    if (completes != nullptr && &segment == &micro_batch.back()) completes->arm();
    const ProfileRange range("backward");
    backward({loss}, {one_});
    state.detach();
  }
  for (const nn::Parameter* parameter : parameters) parameter->settle_gradient();
}

}  // namespace sluice
