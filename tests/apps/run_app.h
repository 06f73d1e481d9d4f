// The built programs, as a user runs them.
#pragma once

#include <filesystem>
#include <string>

namespace sluice::test {

struct AppResult {
  int exit_code = -1;
  std::string output;  // standard output
  std::string errors;  // standard error
};

// Runs `command_line`, "evaluate --help", through the shell in the folder of the programs; standard error
// goes through a file in `scratch`.
AppResult run_app(const std::string& command_line, const std::filesystem::path& scratch);

}  // namespace sluice::test
