// Ranks that are told to stop, that hang and that die: what the job ends with, how soon, and that nothing of
// it stays. SLUICE_TEST_REPEATS says how often each case is tried, at another moment every time.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "core/random.h"
#include "loopback.h"
#include "ranked_run.h"
#include "support/catch.h"
#include "train/checkpoint_names.h"
#include "train/checkpoint_verify.h"

using namespace sluice;
using test::RankedRun;
using Clock = std::chrono::steady_clock;

namespace {

int repeats() {
  const char* text = std::getenv("SLUICE_TEST_REPEATS");
  return text == nullptr ? 1 : std::max(1, std::atoi(text));
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One that does not end by itself and spends its time in steps, validations and saves alike.
class EndlessRun : public RankedRun {
 public:
  EndlessRun() {
    set("train.steps", "1000000");
    set("train.validate_every", "3");
    set("checkpoint.every", "4");
    set("log.progress", "auto");
  }
};

// A program under mpirun, one of whose lines was seen.
class Started {
 public:
  Started(const RankedRun& run, int ranks, const std::string& line, test::ChildProcess::Environment more = {})
      : run_(run) {
    auto environment = test::mpi_environment();
    environment.insert(environment.end(), more.begin(), more.end());
    child_ = std::make_unique<test::ChildProcess>(test::under_mpi(ranks, "train", run.arguments("run")),
                                                  environment);
    std::string seen;
    while (seen.find(line) == std::string::npos) {
      seen = child_->read_line();
      REQUIRE_FALSE(seen.empty());
    }
  }

  // Somewhere in the following 0.4 s.
  void wait_a_while(uint64_t attempt) const {
    const auto microseconds = Philox(3).bits64(attempt) % 400000;
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  }
  test::ChildProcess& child() { return *child_; }

  void check_stopped_and_saved(int exit_code) {
    const std::string output = child_->read_all();
    INFO(output);
    CHECK(child_->wait() == exit_code);
    const auto words = output.find("after step ");
    REQUIRE(words != std::string::npos);
    const int64_t step = std::atoll(output.c_str() + words + 11);
    const auto saved = run_ / "run/checkpoints" / checkpoint_name(step);
    CHECK(verify_checkpoint(saved, VerifyLevel::kFull).step == step);
    CHECK(run_.processes_left() == 0);
  }

 private:
  const RankedRun& run_;
  std::unique_ptr<test::ChildProcess> child_;
};

}  // namespace

TEST_CASE("SIGUSR1 to mpirun saves and ends all with 75, whatever they are at") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    for (const int ranks : {2, 4}) {
      const EndlessRun run;
      Started job(run, ranks, attempt % 2 == 0 ? "step 1/" : " ranks on ");
      job.wait_a_while(static_cast<uint64_t>(2 * attempt + ranks));
      job.child().kill(SIGUSR1);
      job.check_stopped_and_saved(75);
    }
  }
}

// mpirun waits for so many seconds before it hands SIGTERM on, and as long before it kills. What it ends with
// is its own.
TEST_CASE("SIGTERM to mpirun saves too, where mpirun grants the time") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    const EndlessRun run;
    Started job(run, attempt % 2 == 0 ? 2 : 4, "step 1/", {{"OMPI_MCA_odls_base_sigkill_timeout", "2"}});
    job.wait_a_while(static_cast<uint64_t>(attempt));
    job.child().kill(SIGTERM);
    job.check_stopped_and_saved(1);
  }
}

TEST_CASE("a rank that hangs or is stopped is named, and all end with 124") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    for (const int ranks : {2, 4}) {
      EndlessRun run;
      run.set("parallel.step_seconds", "1.5");
      const bool stopped = (attempt + ranks / 2) % 2 == 0;
      const auto start = Clock::now();
      const auto outcome = run.with_last(ranks, "run", stopped ? "stop@20" : "hang@20");
      INFO(outcome.output);
      CHECK(outcome.exit_code == 124);
      CHECK(seconds_since(start) < 15);
      CHECK_THAT(outcome.output, test::contains("watchdog: rank 0 on "));
      CHECK_THAT(outcome.output, test::contains("phase \"agreement after a step\" is not done after 1.5 s; "
                                                "last collective: all_gather number "));
      CHECK_THAT(outcome.output, test::contains(": step 20, "));
      const std::string last = "watchdog: rank " + std::to_string(ranks - 1);
      if (!stopped) CHECK_THAT(outcome.output, test::contains(last));
      CHECK(run.processes_left() == 0);
    }
  }
}

TEST_CASE("the death of a rank ends the job soon, and no process stays") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    for (const int ranks : {2, 4}) {
      const EndlessRun run;
      const auto start = Clock::now();
      const auto outcome = run.with_last(ranks, "run", "kill@" + std::to_string(20 + attempt));
      INFO(outcome.output);
      CHECK(outcome.exit_code != 0);
      CHECK(seconds_since(start) < 10);
      CHECK(run.processes_left() == 0);
    }
  }
}

TEST_CASE("the death of mpirun ends its ranks") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    const EndlessRun run;
    Started job(run, attempt % 2 == 0 ? 2 : 4, "step 1/");
    job.wait_a_while(static_cast<uint64_t>(attempt));
    const auto start = Clock::now();
    job.child().kill(SIGKILL);
    CHECK(job.child().wait() == -SIGKILL);
    CHECK(run.processes_left() == 0);
    CHECK(seconds_since(start) < 10);
  }
}

TEST_CASE("without a launcher that looks after them, ranks notice the death of one") {
  for (int attempt = 0; attempt < repeats(); ++attempt) {
    const int ranks = attempt % 2 == 0 ? 4 : 2;
    const std::string port = std::to_string(test::free_port());
    std::vector<std::unique_ptr<test::ChildProcess>> processes;
    for (int rank = 0; rank < ranks; ++rank) {
      processes.push_back(std::make_unique<test::ChildProcess>(
          std::vector<std::string>{std::string(SLUICE_BINARY_DIR) + "/tests/tcp_probe"},
          test::ChildProcess::Environment{{"RANK", std::to_string(rank)},
                                          {"WORLD_SIZE", std::to_string(ranks)},
                                          {"MASTER_ADDR", "127.0.0.1"},
                                          {"MASTER_PORT", port}}));
    }
    for (const auto& process : processes) REQUIRE(process->read_line() == "met");
    const int victim = attempt % ranks;
    const auto start = Clock::now();
    processes[static_cast<size_t>(victim)]->kill(SIGKILL);
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string output = processes[static_cast<size_t>(rank)]->read_all();
      INFO("rank " << rank << ": " << output);
      CHECK(processes[static_cast<size_t>(rank)]->wait() == (rank == victim ? -SIGKILL : 1));
      if (rank != victim) CHECK_THAT(output, test::contains("is gone: it has ended"));
    }
    CHECK(seconds_since(start) < 10);
  }
}
