// A case of tests/golden: a tiny checkpoint of flash-linear-attention with what its model computes in
// float64.
#pragma once

#include <algorithm>
#include <filesystem>
#include <vector>

#include "core/environment.h"
#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/weight_directory.h"

namespace sluice::test {

// The folders of tests/golden, or of SLUICE_GOLDEN_DIR.
inline std::vector<std::filesystem::path> golden_cases() {
  const std::filesystem::path folder =
      environment::text("SLUICE_GOLDEN_DIR", SLUICE_SOURCE_DIR "/tests/golden");
  std::vector<std::filesystem::path> cases;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (std::filesystem::exists(entry.path() / "golden.safetensors")) cases.push_back(entry.path());
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

struct Golden {
  explicit Golden(const std::filesystem::path& folder)
      : config(read_model_config_file(folder / "config.json")),
        weights(folder),
        expected((folder / "golden.safetensors").string()),
        tokens(expected.load("input_ids", DType::kI32)),
        labels(expected.load("shifted_labels", DType::kI32)) {}

  int64_t rows() const { return tokens.size(0); }
  int64_t length() const { return tokens.size(1); }

  ModelConfig config;
  WeightDirectory weights;
  SafetensorsFile expected;
  Tensor tokens, labels;  // [B, T]
};

}  // namespace sluice::test
