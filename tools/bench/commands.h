// The subcommands of bench; each adds itself to the command line and returns what runs it.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace sluice::bench {

using Command = std::function<int()>;

Command add_step_command(CLI::App& app);
Command add_decode_command(CLI::App& app);
Command add_kernels_command(CLI::App& app);
Command add_devices_command(CLI::App& app);

}  // namespace sluice::bench
