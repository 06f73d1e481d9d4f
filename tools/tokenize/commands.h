// One subcommand a file. Each adds itself to the program and, when it was chosen, sets `chosen` to what it
// does.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace sluice::tokenize {

using Action = std::function<int()>;  // returns the exit code

void add_train_model(CLI::App& app, Action& chosen);
void add_encode(CLI::App& app, Action& chosen);
void add_decode(CLI::App& app, Action& chosen);
void add_stats(CLI::App& app, Action& chosen);

}  // namespace sluice::tokenize
