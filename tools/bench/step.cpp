// bench step: whole training steps, loader and optimizer included, on random tokens.
#include <fmt/core.h>
#include <omp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "ceilings.h"
#include "commands.h"
#include "core/file.h"
#include "core/profile_range.h"
#include "core/progress.h"
#include "core/random.h"
#include "data/shard_writer.h"
#include "model_run.h"
#include "timing.h"
#include "train/trainer.h"

namespace sluice::bench {
namespace {

struct Options : ModelRun {
  Options() { steps = 20, warmup = 3; }
  int64_t sequences = 4;
  int64_t length = 256;
  std::string recompute = "none";
  bool graph = true;
  bool profile = false;
};

// A shard of random tokens that is gone with the object.
class RandomShard {
 public:
  RandomShard(int64_t vocabulary, int64_t tokens)
      : directory_(std::filesystem::temp_directory_path() / fmt::format("sluice-bench-{}", ::getpid())) {
    create_directories(directory_, ErrorKind::kData);
    ShardWriter writer(directory_, "random", vocabulary, tokens);
    const Philox random(1);
    std::vector<int32_t> values(static_cast<size_t>(tokens));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<int32_t>(random.bits64(i) % static_cast<uint64_t>(vocabulary));
    }
    writer.append(values);
    writer.finish();
  }
  ~RandomShard() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  RandomShard(const RandomShard&) = delete;
  RandomShard& operator=(const RandomShard&) = delete;

  std::string path() const { return directory_.string(); }

 private:
  std::filesystem::path directory_;
};

int run(const Options& options) {
  const ModelConfig model = prepare(options);
  const int64_t tokens_per_step = options.sequences * options.length;
  const RandomShard shard(model.vocab_size, 8 * tokens_per_step + 1);

  RunConfig run;
  run.data.train = {{shard.path(), 1.0}};
  run.train.steps = options.warmup + options.steps;
  run.train.sequence_length = options.length;
  run.train.micro_batch_sequences = options.sequences;
  run.train.device = options.device;
  run.train.dtype = options.dtype;
  run.train.recompute = options.recompute == "layer"       ? Recompute::kLayer
                        : options.recompute == "selective" ? Recompute::kSelective
                                                           : Recompute::kNone;
  run.train.cuda_graph = options.graph;
  const auto start = std::chrono::steady_clock::now();
  Trainer trainer(run, model);
  trainer.step();
  const double first_step = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Timing timing = time_repeated([&] { trainer.step(); }, options.warmup, options.steps);

  if (options.profile) {
    start_profiler();
    trainer.step();
    stop_profiler();
  }
  const Device device = trainer.model().device();
  const MemoryStatistics memory = allocator_of(device).statistics();
  const int64_t peak = memory.peak;
  const Ceilings ceilings = measure_ceilings(device);
  const double tokens_per_second = static_cast<double>(tokens_per_step) / timing.median;
  const double flops = tokens_per_second * trainer.flops_per_token();
  fmt::print("{}: {} parameters, {} x {} tokens a step, {} in {}, {} threads\n", options.model,
             trainer.model().parameter_count(), options.sequences, options.length, name_of(device),
             name_of(trainer.model().dtype()), omp_get_max_threads());
  fmt::print("{:.1f} s from the start to the end of the first step\n", first_step);
  fmt::print("{:.1f} ms a step (fastest {:.1f}, slowest {:.1f}, {} steps), {:.0f} tokens/s\n",
             1e3 * timing.median, 1e3 * timing.fastest, 1e3 * timing.slowest, options.steps,
             tokens_per_second);
  fmt::print("{:.1f} GFLOP/s, {:.0f}% of a large matrix product's {:.1f}\n", flops / 1e9,
             100 * flops / ceilings.flops_per_second, ceilings.flops_per_second / 1e9);
  fmt::print("memory: {}, {} cached\n", memory.to_string(), format_bytes(static_cast<double>(memory.cached)));
  if (!options.json.empty()) {
    const Json result = {{"model", options.model},
                         {"parameters", trainer.model().parameter_count()},
                         {"sequences", options.sequences},
                         {"length", options.length},
                         {"threads", omp_get_max_threads()},
                         {"device", name_of(device)},
                         {"dtype", name_of(trainer.model().dtype())},
                         {"first_step_seconds", first_step},
                         {"seconds_per_step", timing.median},
                         {"tokens_per_second", tokens_per_second},
                         {"flops_per_second", flops},
                         {"ceiling_flops_per_second", ceilings.flops_per_second},
                         {"peak_bytes", peak}};
    write_file_atomically(options.json, dump_json(result) + "\n", ErrorKind::kUsage);
  }
  return 0;
}

}  // namespace

Command add_step_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("step", "time whole training steps on random tokens");
  add_model_option(*command, *options);
  command->add_option("--sequences", options->sequences, "sequences a step")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--length", options->length, "tokens of a sequence")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_step_options(*command, *options);
  command
      ->add_option("--recompute", options->recompute, "what backward computes again: none, selective, layer")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "selective", "layer"}));
  command->add_flag("--graph,!--no-graph", options->graph, "replay micro steps as one recorded graph (GPU)");
  command->add_flag("--profile", options->profile,
                    "bracket one more step for a profiler that waits, e.g. ncu --profile-from-start off");
  add_json_option(*command, *options);
  return [options] { return run(*options); };
}

}  // namespace sluice::bench
