// The subcommands of mqar.
#pragma once

#include <CLI/App.hpp>
#include <functional>

#include "tools/mqar/task.h"

namespace sluice::mqar {

// Each declares its subcommand; when the command line names it, `action` becomes what to run.
void add_generate(CLI::App& app, std::function<int()>& action);
void add_score(CLI::App& app, std::function<int()>& action);
void add_plot(CLI::App& app, std::function<int()>& action);

// The options that describe the task, for commands that need it.
void add_task_options(CLI::App& command, Task& task);

}  // namespace sluice::mqar
