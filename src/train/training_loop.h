// A whole run: set up or resume, step until done, validate, sample, log and save on the way.
#pragma once

#include <filesystem>
#include <string>

#include "config/run_config.h"
#include "model/model_config.h"

namespace sluice {

// Trains as `run` says, in run.train.output_dir. `resume`: "auto" continues from the newest valid checkpoint
// there, or starts when there is none; "never" insists on a fresh directory; anything else is the checkpoint
// to go on from. Returns the exit code: 0 when all steps are done, 75 when a signal stopped it after saving.
// Errors as Error.
int run_training(const RunConfig& run, const ModelConfig& model, const std::string& resume);

}  // namespace sluice
