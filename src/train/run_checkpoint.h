// The checkpoints of a training run: where they lie, what goes into them, and which one a run starts from.
#pragma once

#include <memory>
#include <string>

#include "config/run_config.h"
#include "model/model_config.h"
#include "train/checkpoint_store.h"
#include "train/fault.h"
#include "train/trainer.h"

namespace sluice {

class RunCheckpoints {
 public:
  // Below run.train.output_dir / "checkpoints".
  RunCheckpoints(const RunConfig& run, const ModelConfig& model);

  // Brings the trainer to where the run goes on ("auto", "never" or a path, see training_loop.h), or to the
  // weights of train.init_from, and makes sure that there is room for what will be saved. Error(kUsage) for
  // "never" where checkpoints are; Error(kCheckpoint) when none of those that are there can be used.
  void start(Trainer& trainer, const std::string& resume);

  // Saves what the trainer holds, with the counters of `state`.
  void save(const Trainer& trainer, const TrainerState& state);
  // The other ranks' part in rank 0's save(), where they share the optimizer's state.
  static void assist(const Trainer& trainer);

 private:
  std::filesystem::path find(const std::string& resume);

  const RunConfig& run_;
  const ModelConfig& model_;
  FaultPlan faults_;
  CheckpointStore store_;
};

}  // namespace sluice
