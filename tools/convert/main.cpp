// convert: looks into files, and turns model directories and token files into others.
#include <CLI/CLI.hpp>

#include "core/program.h"
#include "tools/convert/inspect.h"
#include "tools/convert/tokens.h"
#include "tools/convert/weights.h"

int main(int argc, char** argv) {
  CLI::App app(
      "Looks into files of weights and tokens, and turns model directories and token files into others.\n"
      "Exit codes: 0 done, 2 usage, 3 token files, 4 weights, 5 memory.",
      "convert");
  app.require_subcommand(1);
  std::function<int()> action;
  sluice::convert::add_inspect(app, action);
  sluice::convert::add_weights(app, action);
  sluice::convert::add_tokens(app, action);
  return sluice::run_program(app, argc, argv, [&action] { return action(); });
}
