#include "model_run.h"

#include <omp.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "config/json.h"

namespace sluice::bench {

void add_model_option(CLI::App& command, ModelRun& run) {
  command.add_option("--model", run.model, "the model's config.json")->capture_default_str();
}

void add_step_options(CLI::App& command, ModelRun& run) {
  command.add_option("--steps", run.steps, "timed steps")->capture_default_str()->check(CLI::PositiveNumber);
  command.add_option("--warmup", run.warmup, "untimed steps before them")->capture_default_str();
  command.add_option("--threads", run.threads, "CPU threads; 0: all cores")->capture_default_str();
  command.add_option("--device", run.device, "auto, cpu or cuda")->capture_default_str();
  command.add_option("--dtype", run.dtype, "auto, float32, bfloat16 (GPU) or float64 (CPU)")
      ->capture_default_str();
}

void add_json_option(CLI::App& command, ModelRun& run) {
  command.add_option("--json", run.json, "also write the figures to this file");
}

ModelConfig prepare(const ModelRun& run) {
  if (run.threads > 0) omp_set_num_threads(run.threads);
  Problems problems;
  const Json json = read_json_file(run.model, ErrorKind::kUsage);
  ModelConfig config = read_model_config(json, "", UnknownKeys::kRefuse, problems);
  problems.throw_if_any(run.model, ErrorKind::kUsage);
  return config;
}

}  // namespace sluice::bench
