// A small training run in several processes.
#pragma once

#include <string>
#include <vector>

#include "apps/training_run.h"
#include "config/json.h"
#include "mpi_launch.h"

namespace sluice::test {

// 50 steps of 8 sequences in float64, which 1, 2 and 4 ranks share.
class RankedRun : public TrainingRun {
 public:
  RankedRun();

  std::vector<std::string> arguments(const std::string& output,
                                     const std::vector<std::string>& more = {}) const;

  // Into the folder `output`, with `fault` on all ranks.
  Outcome on(int ranks, const std::string& output, const std::string& fault = "",
             const std::vector<std::string>& more = {}) const;
  // sha256 of the files a run must reproduce, moments of all shards among them.
  std::vector<std::string> all_hashes(const std::string& output, int64_t step) const;

  // The last rank has an environment variable or arguments of its own.
  Outcome with_last(int ranks, const std::string& output, const std::string& fault,
                    const std::vector<std::string>& last = {}) const;

  std::vector<Json> log(const std::string& output) const;
  // Of every step, and of the validations.
  std::vector<double> losses(const std::string& output) const;
  std::vector<double> weights(const std::string& output) const;  // after step 50

  // Processes whose command line names the run.
  int processes() const;
  // The same, after waiting at most ten seconds for none.
  int processes_left() const;
};

}  // namespace sluice::test
