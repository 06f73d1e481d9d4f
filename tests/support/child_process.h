// Programs started by tests: with an environment of their own, read while they run, killed at will.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace sluice::test {

class ChildProcess {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;

  // Runs arguments[0] with `environment` added to this one's.
  explicit ChildProcess(const std::vector<std::string>& arguments, const Environment& environment = {});
  ~ChildProcess();  // kills and reaps
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  std::string read_line();  // of its standard output and error together; what is left, at the end
  std::string read_all();
  void kill(int signal);
  // Waits; the exit code, or minus the number of the signal that ended it.
  int wait();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace sluice::test
