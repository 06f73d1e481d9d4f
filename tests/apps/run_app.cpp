#include "run_app.h"

#include <sys/wait.h>

#include <cstdio>

#include "core/file.h"

namespace sluice::test {

AppResult run_app(const std::string& command_line, const std::filesystem::path& scratch) {
  const auto errors = scratch / "standard_error.txt";
  const std::string command = SLUICE_BINARY_DIR "/" + command_line + " 2> '" + errors.string() + "'";
  FILE* pipe = ::popen(command.c_str(), "r");
  SLUICE_CHECK(pipe != nullptr, kInternal, "cannot run {}", command);
  AppResult result;
  char piece[4096];
  for (size_t read; (read = std::fread(piece, 1, sizeof(piece), pipe)) > 0;)
    result.output.append(piece, read);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  result.errors = read_text_file(errors, ErrorKind::kInternal);
  return result;
}

}  // namespace sluice::test
