// mqar: the associative-recall benchmark; scripts/mqar runs it whole.
#include <CLI/CLI.hpp>

#include "core/program.h"
#include "ops/cpu_setup.h"
#include "tools/mqar/commands.h"

namespace sluice::mqar {

void add_task_options(CLI::App& command, Task& task) {
  command.add_option("--vocabulary", task.vocabulary, "tokens: a filler, keys, and as many values")
      ->capture_default_str();
  command.add_option("--length", task.length, "tokens of an example")->capture_default_str();
  command.add_option("--pairs", task.pairs, "keys with their values in an example")->capture_default_str();
  command.add_option("--power", task.power, "how close queries come to the pairs; 1: anywhere alike")
      ->capture_default_str();
}

}  // namespace sluice::mqar

int main(int argc, char** argv) {
  sluice::ops::use_fast_cpu_kernels(argv);
  CLI::App app(
      "Multi-query associative recall: makes the examples, scores a model on them, draws accuracy against "
      "width.\n"
      "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 memory.",
      "mqar");
  app.require_subcommand(1);
  std::function<int()> action;
  sluice::mqar::add_generate(app, action);
  sluice::mqar::add_score(app, action);
  sluice::mqar::add_plot(app, action);
  return sluice::run_program(app, argc, argv, [&action] { return action(); });
}
