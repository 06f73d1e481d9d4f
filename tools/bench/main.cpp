// bench: how fast training steps and single kernels are, against what the machine can do.
#include <CLI/CLI.hpp>
#include <map>

#include "commands.h"
#include "core/program.h"
#include "kernels/gemm/blas_setup.h"

int main(int argc, char** argv) {
  sluice::kernels::cpu::use_fast_blas_kernels(argv);
  CLI::App app(
      "Times training steps, steps of generation and kernels. Every figure stands beside the machine's "
      "ceiling, measured in the same run.",
      "bench");
  app.require_subcommand(1);
  const std::map<std::string, sluice::bench::Command> commands = {
      {"step", sluice::bench::add_step_command(app)},
      {"decode", sluice::bench::add_decode_command(app)},
      {"kernels", sluice::bench::add_kernels_command(app)},
      {"devices", sluice::bench::add_devices_command(app)},
  };
  return sluice::run_program(app, argc, argv,
                             [&] { return commands.at(app.get_subcommands().front()->get_name())(); });
}
