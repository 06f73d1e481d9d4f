// The frame of every main(): the command line parsed, exceptions made a line on standard error and an exit
// code.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace sluice {

// Parses the arguments with `app` and returns what `body` returns. Help gives 0 and usage errors 2, with a
// message. An Error is printed as "error: MESSAGE" and gives its own exit code, no memory gives 5, any other
// exception 1. SLUICE_LOG_LEVEL=debug adds where an Error was thrown.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

}  // namespace sluice
