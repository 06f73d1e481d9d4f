// convert inspect PATH: what is in a file of weights or tokens.
#pragma once

#include <CLI/App.hpp>
#include <functional>

namespace sluice::convert {

// Declares the subcommand; when the command line names it, `action` becomes what to run.
void add_inspect(CLI::App& app, std::function<int()>& action);

}  // namespace sluice::convert
