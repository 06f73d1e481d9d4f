// train --config FILE: one run, from its config to its last checkpoint.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/overrides.h"
#include "config/run_config.h"
#include "core/log.h"
#include "core/program.h"
#include "dist/launch.h"
#include "ops/cpu_setup.h"
#include "train/run_plan.h"
#include "train/trainer.h"
#include "train/training_loop.h"

namespace {

using namespace sluice;

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string resume = "auto";
  std::string profile_steps;
  bool dry_run = false;
  bool print_config = false;
};

// One process trains; a launcher that started several would have them all write into one directory.
void refuse_several_processes(const RunConfig& run) {
  const LaunchIdentity identity = detect_launch();
  SLUICE_CHECK(identity.world_size == 1, kUsage,
               "started by {} as process {} of {}, but this build trains in one process", identity.launcher,
               identity.rank, identity.world_size);
  SLUICE_CHECK(run.parallel.world_size == identity.world_size, kUsage,
               "parallel.world_size is {}, but {} process was started", run.parallel.world_size,
               identity.world_size);
}

// "a:b", the steps a to b - 1; empty: none.
StepRange parse_step_range(const std::string& text) {
  if (text.empty()) return {};
  StepRange range;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, range.begin);
  const bool has_colon = first.ec == std::errc() && first.ptr != end && *first.ptr == ':';
  const auto last = has_colon ? std::from_chars(first.ptr + 1, end, range.end) : first;
  SLUICE_CHECK(
      has_colon && last.ec == std::errc() && last.ptr == end && 1 <= range.begin && range.begin < range.end,
      kUsage, "--profile-steps \"{}\": two step numbers a:b with 1 <= a < b are needed, e.g. 10:12", text);
  return range;
}

int train(const Arguments& arguments) {
  Problems problems;
  RunConfig run = read_run_config(arguments.config, arguments.overrides, problems);
  const ModelConfig model = read_model_config(run.model, "model", UnknownKeys::kRefuse, problems);
  problems.throw_if_any(arguments.config, ErrorKind::kUsage);
  if (run.train.threads > 0) omp_set_num_threads(static_cast<int>(run.train.threads));
  if (arguments.print_config) {
    fmt::print("{}\n", dump_json(to_json(run)));
    return 0;
  }
  refuse_several_processes(run);
  const RunPlan plan = plan_run(run, model);
  if (arguments.dry_run) {
    fmt::print("{}\n", plan.to_string());
    return 0;
  }
  log::info("{}: {} parameters, {} steps of {} tokens, {} on {} threads, {}", run.name, plan.parameters,
            plan.steps, plan.tokens_per_step, name_of(compute_device(run.train)), omp_get_max_threads(),
            ops::cpu_kernels_description());
  return run_training(run, model, {arguments.resume, parse_step_range(arguments.profile_steps)});
}

}  // namespace

int main(int argc, char** argv) {
  sluice::ops::use_fast_cpu_kernels(argv);
  Arguments arguments;
  CLI::App app(
      "Trains a language model as a JSON config says. Writes checkpoints (Hugging Face directories), "
      "log.jsonl,\n"
      "timing.jsonl and a TensorBoard event file into train.output_dir, and goes on where it stopped when "
      "started\n"
      "again. SIGTERM, SIGINT and SIGUSR1 finish the step, save and exit with 75.\n"
      "Exit codes: 0 done, 2 config, 3 data, 4 checkpoint, 5 memory, 17 numerics, 75 stopped and resumable.",
      "train");
  app.add_option("--config,-c", arguments.config, "the run's JSON config")->required();
  app.add_option("--set", arguments.overrides,
                 "key=value over the config, e.g. --set optimizer.lr=1e-3; repeatable");
  app.add_option("--resume", arguments.resume,
                 "auto: from the newest valid checkpoint of the output directory; never: insist on a fresh "
                 "one; or the\n"
                 "path of a checkpoint")
      ->capture_default_str();
  app.add_option("--profile-steps", arguments.profile_steps,
                 "a:b brackets steps a to b - 1 for a profiler that was started to wait, e.g.\n"
                 "nsys profile --capture-range cudaProfilerApi; kernels then run without a graph");
  app.add_flag("--dry-run", arguments.dry_run, "print parameters, memory, steps, tokens and disk, and stop");
  app.add_flag("--print-config", arguments.print_config, "print the config with every default, and stop");
  return sluice::run_program(app, argc, argv, [&] { return train(arguments); });
}
