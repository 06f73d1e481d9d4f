// train --config FILE: one run, from its config to its last checkpoint.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "apps/config_reference.h"
#include "config/overrides.h"
#include "config/run_config.h"
#include "config/run_config_check.h"
#include "core/log.h"
#include "core/program.h"
#include "core/progress.h"
#include "dist/connect.h"
#include "ops/cpu_setup.h"
#include "train/run_plan.h"
#include "train/stop_signal.h"
#include "train/trainer.h"
#include "train/training_loop.h"

namespace {

using namespace sluice;

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string init_from;
  std::string resume = "auto";
  std::string profile_steps;
  bool dry_run = false;
  double tokens_per_second = 0;
  bool print_config = false;
  bool print_config_reference = false;
};

// What the config says of several processes can be judged once their number is known.
void settle_world_size(RunConfig& run, const LaunchIdentity& identity, bool dry_run, Problems& problems) {
  // A plan is for as many as the config says, started or not.
  if (dry_run && identity.world_size == 1 && run.parallel.world_size > 0) return;
  const int64_t expected = std::exchange(run.parallel.world_size, identity.world_size);
  if (!problems.empty()) return;
  if (expected != 0 && expected != identity.world_size) {
    problems.add("parallel.world_size", fmt::format("{}, but the number of processes is {} (launcher: {})",
                                                    expected, identity.world_size, identity.launcher));
  } else if (expected == 0) {
    check_run_config(run, problems);
  }
}

// Cores are shared by the processes of a host; a launcher may have bound each to some of them.
void set_threads(const RunConfig& run, const World& world) {
  if (run.train.threads > 0) {
    omp_set_num_threads(static_cast<int>(run.train.threads));
  } else if (world.local_size > 1) {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    omp_set_num_threads(std::max(1, std::min(omp_get_num_procs(), cores / world.local_size)));
  }
}

[[noreturn]] void end_all(Communicator& communicator, ErrorKind kind, const char* message) {
  Progress::clear_line();
  std::fprintf(stderr, "error: %s: %s\n", communicator.world().name_of(communicator.rank()).c_str(), message);
  std::fflush(stderr);
  communicator.abort(static_cast<int>(kind));
}

// An error of one rank ends all: the others would wait for it for ever.
int train_together(Communicator& communicator, const std::function<int()>& body) {
  if (communicator.world_size() == 1) return body();
  try {
    return body();
  } catch (const Error& error) {
    end_all(communicator, error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    end_all(communicator, ErrorKind::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    end_all(communicator, ErrorKind::kInternal, error.what());
  }
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
  if (arguments.print_config_reference) {
    fmt::print("{}", config_reference());
    return 0;
  }
  SLUICE_CHECK(!arguments.config.empty(), kUsage, "--config is required; see train --help");
  const LaunchIdentity identity = detect_launch();
  const bool speaks = identity.rank == 0;
  if (!speaks) log::set_level(log::Level::kWarning);
  Problems problems;
  std::vector<std::string> overrides = arguments.overrides;
  if (!arguments.init_from.empty()) {
    overrides.push_back("train.init_from=" + dump_json(Json(arguments.init_from), -1));
  }
  RunConfig run = read_run_config(arguments.config, overrides, problems);
  const ModelConfig model = read_model_config(run.model, "model", UnknownKeys::kRefuse, problems);
  settle_world_size(run, identity, arguments.dry_run, problems);
  problems.throw_if_any(arguments.config, ErrorKind::kUsage);
  if (arguments.print_config) {
    if (speaks) fmt::print("{}\n", dump_json(to_json(run)));
    return 0;
  }
  RunPlan plan = plan_run(run, model);
  plan.tokens_per_second = arguments.tokens_per_second;
  if (arguments.dry_run) {
    if (speaks) fmt::print("{}\n", plan.to_string());
    return 0;
  }
  // From here on a signal is kept until there is something to save.
  const StopSignal stop;
  const auto communicator = connect(identity, compute_device(run.train), run.parallel.start_seconds);
  set_threads(run, communicator->world());
  if (communicator->world_size() > 1) log::info("{}", describe(identity, *communicator));
  log::info("{}: {} parameters, {} steps of {} tokens, {} on {} threads, {}", run.name, plan.parameters,
            plan.steps, plan.tokens_per_step, name_of(compute_device(run.train)), omp_get_max_threads(),
            ops::cpu_kernels_description());
  const StartOptions options{arguments.resume, parse_step_range(arguments.profile_steps)};
  return train_together(*communicator, [&] { return run_training(run, model, options, *communicator); });
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
      "Exit codes: 0 done, 2 config, 3 data, 4 checkpoint, 5 memory, 17 numerics, 75 stopped and resumable,\n"
      "124 ended by the watchdog.",
      "train");
  app.add_option("--config,-c", arguments.config, "the run's JSON config; docs/config.md has every key");
  app.add_option("--set", arguments.overrides,
                 "key=value over the config, e.g. --set optimizer.lr=1e-3; repeatable");
  app.add_option("--init-from", arguments.init_from,
                 "start from the weights of this Hugging Face directory; the same as --set train.init_from=");
  app.add_option("--resume", arguments.resume,
                 "auto: from the newest valid checkpoint of the output directory; never: insist on a fresh "
                 "one; or the\n"
                 "path of a checkpoint")
      ->capture_default_str();
  app.add_option(
      "--profile-steps", arguments.profile_steps,
      "a:b records what runs when in steps a to b - 1: timeline.json, which ui.perfetto.dev opens, and\n"
      "timeline.txt, a table, in the output directory, one of each a rank. Also brackets these steps for\n"
      "a profiler that was started to wait, e.g. nsys profile --capture-range cudaProfilerApi");
  app.add_flag("--dry-run", arguments.dry_run,
               "print parameters, memory, steps, tokens and disk, and stop; for parallel.world_size\n"
               "processes, and for train.device cuda where there is none");
  app.add_option("--tokens-per-second", arguments.tokens_per_second,
                 "speed of one process, as bench step prints it, for the time in --dry-run")
      ->check(CLI::PositiveNumber);
  app.add_flag("--print-config", arguments.print_config, "print the config with every default, and stop");
  app.add_flag("--print-config-reference", arguments.print_config_reference,
               "print every key a config may hold, in Markdown, and stop");
  return sluice::run_program(app, argc, argv, [&] { return train(arguments); });
}
