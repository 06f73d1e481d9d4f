// convert weights SRC DST: a Hugging Face model directory in another dtype, or in other shards.
#pragma once

#include <CLI/App.hpp>
#include <functional>

namespace sluice::convert {

// Declares the subcommand; when the command line names it, `action` becomes what to run.
void add_weights(CLI::App& app, std::function<int()>& action);

}  // namespace sluice::convert
