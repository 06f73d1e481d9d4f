// What the subcommands that run a model have in common.
#pragma once

#include <string>

#include "model/model_config.h"

namespace CLI {
class App;
}

namespace sluice::bench {

struct ModelRun {
  std::string model = "configs/model/gla_6x256.json";
  int steps = 0, warmup = 0;
  int threads = 0;
  std::string device = "auto";
  std::string dtype = "auto";
  std::string json;
};

void add_model_option(CLI::App& command, ModelRun& run);
// Steps and what they run on.
void add_step_options(CLI::App& command, ModelRun& run);
void add_json_option(CLI::App& command, ModelRun& run);

// Sets the threads and reads the model's config; Error(kUsage) with all its problems.
ModelConfig prepare(const ModelRun& run);

}  // namespace sluice::bench
