// report RUN...: the curves of training runs in one page.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "core/program.h"
#include "train/run_report.h"

namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string output;
};

int report(const Arguments& arguments) {
  const std::vector<std::filesystem::path> runs(arguments.runs.begin(), arguments.runs.end());
  std::filesystem::path output = arguments.output;
  if (output.empty()) output = runs.size() == 1 ? runs[0] / "report.html" : "report.html";
  sluice::write_report(runs, output);
  fmt::print("{}\n", output.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app(
      "Draws training runs: loss, validation, learning rate, gradient norm, speed, memory, perplexity by "
      "position "
      "and samples,\n"
      "in one HTML file that opens from disk and asks no network. Several runs are drawn over each other.\n"
      "Exit codes: 0 done, 2 usage or a build without the page (it needs npm), 3 a run's files.",
      "report");
  app.add_option("RUN", arguments.runs, "directories of runs (train.output_dir)")->required();
  app.add_option("--output,-o", arguments.output,
                 "the file to write; default: report.html in the run, or here for several");
  return sluice::run_program(app, argc, argv, [&] { return report(arguments); });
}
