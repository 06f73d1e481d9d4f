#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "core/progress.h"
#include "data/shard_writer.h"
#include "tools/mqar/commands.h"

namespace sluice::mqar {
namespace {

struct Arguments {
  Task task;
  std::string output;
  int64_t train = 100'000, test = 3'000, fewest_pairs = 0;
  uint64_t seed = 0;
};

void write_split(const Arguments& arguments, const Task& task, const char* prefix, int64_t examples,
                 uint64_t seed) {
  if (examples == 0) return;
  constexpr int64_t kPiece = 1024;
  // Whole examples in each shard.
  const int64_t a_shard = std::max<int64_t>(1, 50'000'000 / task.length) * task.length;
  ShardWriter writer(arguments.output, prefix, task.vocabulary, a_shard);
  Progress progress(prefix, static_cast<double>(examples), "examples");
  std::vector<std::vector<int32_t>> piece(kPiece);
  for (int64_t first = 0; first < examples; first += kPiece) {
    const int64_t count = std::min(kPiece, examples - first);
#pragma omp parallel for
    for (int64_t i = 0; i < count; ++i)
      piece[static_cast<size_t>(i)] = make_example(task, seed, static_cast<uint64_t>(first + i));
    for (int64_t i = 0; i < count; ++i) writer.append(piece[static_cast<size_t>(i)]);
    progress.update(static_cast<double>(first + count));
  }
  // A sequence has a label behind its last token: the last example's is a filler.
  writer.append(std::vector<int32_t>{0});
  const auto shards = writer.finish();
  fmt::print("{}: {} examples of {} tokens, {} pairs, in {} file(s)\n", prefix, examples, task.length,
             task.pairs, shards.size());
}

int generate(const Arguments& arguments) {
  Task training = arguments.task;
  training.fewest_pairs = arguments.fewest_pairs;
  check(training);
  // Two series that share no example.
  write_split(arguments, training, "train", arguments.train, 2 * arguments.seed);
  write_split(arguments, arguments.task, "test", arguments.test, 2 * arguments.seed + 1);
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand(
      "generate", "write examples as token shards, FOLDER/train_*.bin and FOLDER/test_*.bin");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("--output", arguments->output, "folder, made where it is missing")->required();
  command->add_option("--train", arguments->train, "examples to train on")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--test", arguments->test, "examples to score")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--fewest-pairs", arguments->fewest_pairs,
                   "pairs of the easiest examples to train on, which then have 1/2, 1/4, ... of --pairs; 0: "
                   "none is easier")
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "same seed, same examples")->capture_default_str();
  add_task_options(*command, arguments->task);
  command->callback([arguments, &action] { action = [arguments] { return generate(*arguments); }; });
}

}  // namespace sluice::mqar
