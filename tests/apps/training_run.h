// A directory with token shards, a tokenizer and a run's config, for tests that start programs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/json.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"

namespace sluice::test {

struct Outcome {
  int exit_code = 0;   // minus the signal's number when one ended it
  std::string output;  // both streams
};

// Runs build/PROGRAM with the arguments and waits.
Outcome run_program(const std::string& program, const std::vector<std::string>& arguments,
                    const ChildProcess::Environment& environment = {});

class TrainingRun {
 public:
  // Shards of 61 kinds of tokens in data/, config.json for 100 steps of a small GLA model, output in run/.
  TrainingRun();

  std::filesystem::path operator/(const std::string& name) const { return directory_ / name; }
  // Changes one key of the config, e.g. set("train.steps", "50"); the value is JSON.
  void set(const std::string& path, const std::string& value);
  Outcome train(const std::vector<std::string>& more = {},
                const ChildProcess::Environment& environment = {}) const;
  std::string config_path() const { return (directory_ / "config.json").string(); }
  // sha256 of what a run must reproduce: weights, moments and log of the checkpoint at `step`.
  std::vector<std::string> hashes(const std::string& output, int64_t step) const;

 private:
  TemporaryDirectory directory_;
};

}  // namespace sluice::test
