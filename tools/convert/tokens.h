// convert tokens SRC DST: token files of one format in another.
#pragma once

#include <CLI/App.hpp>
#include <functional>

namespace sluice::convert {

// Declares the subcommand; when the command line names it, `action` becomes what to run.
void add_tokens(CLI::App& app, std::function<int()>& action);

}  // namespace sluice::convert
