#include "support/child_process.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace sluice::test {

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const Environment& environment) {
  int ends[2];
  SLUICE_ASSERT(::pipe(ends) == 0);
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  pid_ = ::fork();
  SLUICE_ASSERT(pid_ >= 0);
  if (pid_ == 0) {
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output_ = ends[0];
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) {
    kill(SIGKILL);
    wait();
  }
  ::close(output_);
}

std::string ChildProcess::read_line() {
  std::string line;
  char byte;
  ssize_t got;
  while ((got = ::read(output_, &byte, 1)) == 1 || (got < 0 && errno == EINTR)) {
    if (got < 0) continue;
    if (byte == '\n') break;
    line += byte;
  }
  return line;
}

std::string ChildProcess::read_all() {
  std::string text;
  char buffer[4096];
  ssize_t got;
  while ((got = ::read(output_, buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

void ChildProcess::kill(int signal) { ::kill(pid_, signal); }

int ChildProcess::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) SLUICE_ASSERT(errno == EINTR);
  pid_ = -1;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace sluice::test
