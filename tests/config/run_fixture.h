// A run's file in a directory of its own.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "core/file.h"
#include "support/temporary_directory.h"

namespace sluice::test {

class RunFixture {
 public:
  RunFixture() { write(minimal()); }

  static std::string minimal() {
    return R"({"model": {"model_type": "gla", "hidden_size": 64}, "data": {"train": "shards/*.bin"},
               "train": {"steps": 1000, "sequence_length": 512}})";
  }
  std::filesystem::path path() const { return directory_ / "small.json"; }
  std::filesystem::path folder() const { return directory_.path(); }
  // Thousands are written, so nothing is made durable; some file systems sync a file truncated in place.
  void write(const std::string& text) const {
    std::filesystem::remove(path());
    OutputFile(path(), ErrorKind::kUsage).write(text);
  }

  // Throws what is wrong.
  RunConfig read(const std::vector<std::string>& overrides = {}) const {
    Problems problems;
    RunConfig config = read_run_config(path(), overrides, problems);
    problems.throw_if_any(path().string(), ErrorKind::kUsage);
    return config;
  }

 private:
  TemporaryDirectory directory_;
};

}  // namespace sluice::test
