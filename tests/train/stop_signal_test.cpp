#include "train/stop_signal.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>

#include "support/catch.h"

using namespace sluice;

namespace {

// The status of a forked process that runs `body` and then exits with 0.
int status_of(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("the first signal is noted by its name") {
  const auto [number, name] =
      GENERATE(table<int, std::string>({{SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGUSR1, "SIGUSR1"}}));
  const StopSignal stop;
  CHECK_FALSE(stop.requested());
  CHECK(stop.name() == std::string());
  ::raise(number);
  CHECK(stop.requested());
  CHECK(stop.name() == name);
}

TEST_CASE("signals of two kinds are both survived, the first is the reason") {
  const StopSignal stop;
  ::raise(SIGUSR1);
  ::raise(SIGTERM);
  CHECK(stop.name() == std::string("SIGUSR1"));
}

TEST_CASE("a signal that comes twice at once is one request") {
  const int number = GENERATE(SIGTERM, SIGINT, SIGUSR1);
  const int status = status_of([&] {
    const StopSignal stop;
    for (int i = 0; i < 3; ++i) ::raise(number);
    ::_exit(stop.requested() ? 7 : 1);
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("a second signal of the same kind, after a while, ends the process") {
  const int number = GENERATE(SIGTERM, SIGINT, SIGUSR1);
  // Catch has handlers of its own in this process; a program starts with the default ones.
  const int status = status_of([&] {
    const StopSignal stop;
    ::raise(number);
    if (!stop.requested()) ::_exit(1);
    ::usleep(static_cast<useconds_t>(1.1e6 * kRepeatSeconds));
    ::raise(number);
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == number);
}

TEST_CASE("the earlier handlers come back, and the next object starts anew") {
  static volatile std::sig_atomic_t own = 0;
  const auto earlier = std::signal(SIGUSR1, [](int) { own = 1; });
  {
    const StopSignal stop;
    ::raise(SIGUSR1);
    CHECK(own == 0);
  }
  ::raise(SIGUSR1);
  CHECK(own == 1);
  const StopSignal stop;
  CHECK_FALSE(stop.requested());
  std::signal(SIGUSR1, earlier);
}

TEST_CASE("a signal does not break a read that waits") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const StopSignal stop;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::usleep(20000);
    ::kill(parent, SIGTERM);
    ::usleep(20000);
    const bool sent = ::write(ends[1], "x", 1) == 1;
    ::_exit(sent ? 0 : 1);
  }
  char byte = 0;
  CHECK(::read(ends[0], &byte, 1) == 1);
  CHECK(stop.requested());
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}
