#include "train/fault.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>

#include "core/error.h"
#include "support/catch.h"

using namespace sluice;

namespace {

// The signal that ends a forked process which runs `body`, 0 when none does.
int signal_of(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGTERM, SIG_DFL);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("no plan does nothing") {
  const FaultPlan plan = FaultPlan::parse("");
  CHECK_FALSE(plan.nan_at(1));
  plan.at_step_end(1);
  plan.during_save();
}

TEST_CASE("nan covers its steps") {
  const FaultPlan plan = FaultPlan::parse("nan@3,nan@10:2");
  for (int64_t step = 0; step < 20; ++step) {
    INFO(step);
    CHECK(plan.nan_at(step) == (step == 3 || step == 10 || step == 11));
    plan.at_step_end(step);
  }
}

TEST_CASE("signals come at their step or save alone") {
  const FaultPlan kill = FaultPlan::parse("kill@7");
  CHECK(signal_of([&] { kill.at_step_end(6); }) == 0);
  CHECK(signal_of([&] { kill.at_step_end(7); }) == SIGKILL);
  CHECK(signal_of([&] { kill.during_save(); }) == 0);
  const FaultPlan term = FaultPlan::parse("nan@1,term@7");
  CHECK(signal_of([&] { term.at_step_end(7); }) == SIGTERM);
  CHECK(signal_of([&] { term.at_step_end(0); }) == 0);
  const FaultPlan save = FaultPlan::parse("kill@save");
  CHECK(signal_of([&] { save.at_step_end(0); }) == 0);
  CHECK(signal_of([&] { save.during_save(); }) == SIGKILL);
}

TEST_CASE("other text is a usage error that repeats it") {
  for (const char* text :
       {"nan", "nan@", "nan@x", "nan@0", "nan@-1", "nan@3:", "nan@3:0", "nan@3:2:1", "kill@3:2", "sleep@3",
        "term@save", "nan@save", "kill @3", "nan@3,,nan@4", "nan@99999999999999999999"}) {
    INFO(text);
    try {
      FaultPlan::parse(text);
      FAIL("was accepted");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 2);
      CHECK_THAT(error.what(), test::contains("SLUICE_FAULT"));
    }
  }
  CHECK_THROWS_WITH(FaultPlan::parse("nan@1,burn@2"), test::contains("\"burn@2\""));
}

TEST_CASE("the environment holds the plan") {
  ::setenv("SLUICE_FAULT", "nan@5", 1);
  CHECK(FaultPlan::from_environment().nan_at(5));
  ::unsetenv("SLUICE_FAULT");
  CHECK_FALSE(FaultPlan::from_environment().nan_at(5));
}
