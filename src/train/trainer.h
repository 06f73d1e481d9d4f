// Model, parameter arena, optimizer and data of one run, and the training step that ties them together. Knows
// nothing of files that are written, of signals or of people watching: that is the loop's (training_loop.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "config/run_config.h"
#include "data/loader.h"
#include "dist/communicator.h"
#include "dist/gradient_reducer.h"
#include "model/language_model.h"
#include "model/named_tensor.h"
#include "optim/adamw.h"
#include "train/batch_feed.h"
#include "train/fault.h"
#include "train/micro_step_graph.h"
#include "train/optimizer_shards.h"
#include "train/trainer_state.h"

namespace sluice {

struct StepResult {
  int64_t step = 0;          // number of the step, from 1
  double loss = 0;           // mean over the labels of the global batch, nats
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;    // of the global batch, all ranks together
  bool skipped = false;  // loss or gradient was not finite: weights and moments are as before
};

// What ranks tell each other between two steps, so that all do the same.
struct StepNotes {
  int stop_rank = -1;     // one that was asked to stop, or -1
  bool save_due = false;  // as rank 0 says, whose clock counts
};

class Trainer {
 public:
  // Allocates everything and draws the initial weights. Errors as the parts throw them; Error(kUsage) when
  // model and run do not go together (segments over layers whose state cannot be carried, an unsupported
  // device or dtype, another world size than the communicator's).
  //
  // With several ranks each takes its part of every global batch and all make the same update; every rank
  // calls the same functions in the same order. `communicator` outlives the trainer.
  Trainer(const RunConfig& run, const ModelConfig& model, Communicator& communicator = solo_communicator());

  // One optimizer step over the next global batch: train_step.cpp.
  StepResult step();
  // Tells the other ranks `mine`, and hears what to do; at most once before each step.
  StepNotes exchange(const StepNotes& mine);
  // Makes weights, moments and counters of all ranks those of rank 0, after restore() or initialize_from()
  // there alone. On all ranks.
  void share();
  // Compares the compute weights of all ranks: Error(kNumerics) names the ranks whose weights are others than
  // most have. On all ranks.
  void require_equal_weights();

  const LanguageModel& model() const {
    settle_weights();
    return *model_;
  }
  const ParameterArena& arena() const { return *arena_; }
  const Loader& loader() const { return *loader_; }
  const TrainerState& state() const { return state_; }
  // FLOPs of one trained token, forward and backward.
  double flops_per_token() const;

  // Weights, moments and counters of a checkpoint directory; the loader goes on at its cursor. Where ranks
  // share the optimizer's state only share() puts them in place. Error(kCheckpoint) when the checkpoint is of
  // another shape.
  void restore(const std::filesystem::path& checkpoint);
  // Weights alone, from any Hugging Face directory.
  void initialize_from(const std::filesystem::path& directory);
  // What a checkpoint holds: the master weights, whether all are finite, and the moments, each under the
  // weights' names. Where ranks share the moments, all of them call the first two and the last one together
  // and in this order; rank 0 has the weights, and each writes a file with its part of the moments into the
  // directory rank 0 gives.
  std::vector<NamedTensor> gather_weights() const;
  bool weights_are_finite() const;
  bool shares_moments() const { return !arena_->has_whole_moments(); }
  std::vector<NamedTensor> first_moments() const;
  std::vector<NamedTensor> second_moments() const;
  std::vector<ManifestFile> write_moments(const std::filesystem::path& directory) const;

 private:
  // Lets `fill` write all master weights of a model that has them. Where the arena has no place for all of
  // them, they come back as a flat tensor on `device`.
  Tensor fill_masters(Device device, const std::function<void(const LanguageModel&)>& fill);
  void keep_slices(const Tensor& masters);
  void share_masters();
  void gather_exact_weights() const;
  void start_gathering_weights();
  void await_weights(const ParameterArena::Range& range) const;
  void settle_weights() const;
  void share_moments();
  void hand_out(const Tensor& whole, const std::function<void(int64_t bucket, const Tensor&)>& take) const;
  void reduce_gradients();
  std::shared_ptr<const ops::SequencePart> part_of_sequences() const;
  void forward_backward(const MicroBatch& micro_batch, double labels, GradientReducer* completes = nullptr);
  double labels_of_step();

  RunConfig run_;
  const bool one_micro_batch_;  // a step
  Communicator& communicator_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<ParameterArena> arena_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<BatchFeed> feed_;
  std::unique_ptr<MicroStepGraph> micro_steps_;
  std::unique_ptr<MicroStepGraph> last_micro_steps_;  // of several ranks: those that send gradients
  // Where ranks share the optimizer's state, updated weights come from all of them while the next step
  // begins, the arena's last bucket first; what gathered_[b] marks is behind bucket b's.
  std::vector<Communicator::Mark> gathered_;
  mutable int64_t awaited_ = 0;  // the lowest bucket that was waited for
  Tensor loss_;                  // of the step so far, a scalar on the device
  Tensor one_;                   // the loss's gradient
  // What rank 0 read and its arena has no place for, until share().
  Tensor loaded_masters_;
  std::optional<Moments> loaded_moments_;
  std::optional<int64_t> labels_;  // of the due global batch over all ranks, once known
  TrainerState state_;
  FaultPlan faults_;
};

// The compute type and device a run asks for, with "auto" decided. Error(kUsage) for what this build lacks.
DType compute_dtype(const TrainConfig& config);
Device compute_device(const TrainConfig& config);

// Micro batches of one process whose gradients add up to one step.
int64_t accumulation_steps(const RunConfig& config);

}  // namespace sluice
