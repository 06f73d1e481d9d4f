// A whole run: set up or resume, step until done, validate, sample, log and save on the way.
#pragma once

#include <cstdint>
#include <string>

#include "config/run_config.h"
#include "dist/communicator.h"
#include "model/model_config.h"
#include "train/step_profile.h"

namespace sluice {

struct StartOptions {
  // "auto" continues from the newest valid checkpoint of run.train.output_dir, or starts when there is none;
  // "never" insists on a fresh directory; anything else is the checkpoint to go on from.
  std::string resume = "auto";
  StepRange profiled;  // see step_profile.h
};

// Trains as `run` says, in run.train.output_dir. Returns the exit code: 0 when all steps are done, 75 when a
// signal stopped it after saving. Errors as Error.
//
// With several ranks all call this. Before the first step they make sure that config, program and data are
// the same (Error(kUsage) names the rank and the part); rank 0 alone reads and writes checkpoints, logs and
// samples, and a signal to any rank stops all after the same step.
int run_training(const RunConfig& run, const ModelConfig& model, const StartOptions& options,
                 Communicator& communicator = solo_communicator());

}  // namespace sluice
