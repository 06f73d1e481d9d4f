// scripts/launch with a small run: exit codes, signals, and a Slurm played by stand-ins.
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "core/file.h"
#include "ranked_run.h"
#include "support/catch.h"

using namespace sluice;
using test::RankedRun;

namespace {

std::string script(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR) + "/scripts/launch/" + name;
}

test::ChildProcess::Environment environment_with(test::ChildProcess::Environment more = {}) {
  auto environment = test::mpi_environment();
  environment.emplace_back("TRAIN", std::string(SLUICE_BINARY_DIR) + "/train");
  environment.insert(environment.end(), more.begin(), more.end());
  return environment;
}

class LaunchedRun : public RankedRun {
 public:
  test::ChildProcess start(const std::vector<std::string>& command,
                           const test::ChildProcess::Environment& more = {}) const {
    std::vector<std::string> all = command;
    for (const std::string& argument : arguments("run")) all.push_back(argument);
    return test::ChildProcess(all, environment_with(more));
  }

  // A program in a folder of its own, for PATH.
  std::string stand_in(const std::string& name, const std::string& text) const {
    const auto folder = *this / "bin";
    std::filesystem::create_directories(folder);
    write_file_atomically(folder / name, "#!/bin/sh\n" + text, ErrorKind::kInternal);
    std::filesystem::permissions(folder / name, std::filesystem::perms::owner_all);
    return folder.string();
  }
};

void read_until(test::ChildProcess& child, const std::string& text) {
  std::string line;
  while (line.find(text) == std::string::npos) {
    line = child.read_line();
    REQUIRE_FALSE(line.empty());
  }
}

}  // namespace

TEST_CASE("one_host starts ranks, and stops them when it is told to") {
  LaunchedRun run;
  {
    auto child = run.start({script("one_host"), "-n", "3"});
    const std::string output = child.read_all();
    INFO(output);
    // Three ranks cannot share 8 sequences of two each.
    CHECK(child.wait() == 2);
    CHECK_THAT(output, test::contains("parallel.world_size 3"));
  }
  run.set("train.steps", "1000000");
  run.set("log.progress", "auto");
  for (const int signal : {SIGUSR1, SIGTERM}) {
    auto child = run.start({script("one_host"), "-n", "2"});
    read_until(child, "step ");
    child.kill(signal);
    const std::string output = child.read_all();
    INFO(output);
    CHECK(child.wait() == 75);
    CHECK_THAT(output, test::contains("stopped by SIGUSR1"));
    CHECK(run.processes_left() == 0);
  }
}

TEST_CASE("hosts starts ranks on the machines of a file") {
  const LaunchedRun run;
  write_file_atomically(run / "hostfile", "localhost slots=2\n", ErrorKind::kInternal);
  auto child = run.start({script("hosts"), (run / "hostfile").string()});
  const std::string output = child.read_all();
  INFO(output);
  CHECK(child.wait() == 0);
  CHECK_THAT(output, test::contains("2 ranks on 1 host"));
}

TEST_CASE("the batch script puts a run that was stopped back into the queue, and no other") {
  LaunchedRun run;
  const std::string path =
      run.stand_in("scontrol", "echo scontrol \"$@\"\n") + ":" + std::string(std::getenv("PATH"));
  const test::ChildProcess::Environment slurm = {
      {"PATH", path}, {"SLURM_JOB_ID", "4711"}, {"SLURM_NTASKS", "2"}};
  {
    auto child = run.start({"/usr/bin/env", "bash", script("slurm.sbatch")}, slurm);
    const std::string output = child.read_all();
    INFO(output);
    CHECK(child.wait() == 0);
    CHECK(output.find("requeue") == std::string::npos);
  }
  run.set("train.steps", "1000000");
  run.set("log.progress", "auto");
  auto child = run.start({"/usr/bin/env", "bash", script("slurm.sbatch")}, slurm);
  read_until(child, "step ");
  child.kill(SIGUSR1);
  const std::string output = child.read_all();
  INFO(output);
  CHECK(child.wait() == 75);
  CHECK_THAT(output, test::contains("scontrol requeue 4711"));
  CHECK(run.processes_left() == 0);
}
