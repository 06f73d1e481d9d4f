// The directories that flash-linear-attention and transformers, old and new, write for one model, made from a
// golden case.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/golden_case.h"

namespace sluice::test {

struct Variant {
  std::string name;
  double tolerance;  // of logits against the goldens, relative RMS: what the weights' type costs
};

// "as_written", "sharded", "bf16", "f16", "merged_gate_up" (older layout), "other_norm_name" (the other
// fuse_norm), "old_config" (keys that were not there yet left out, keys that are gone present).
const std::vector<Variant>& variants();

// Writes the golden's directory in this form to `directory`, which must not exist.
void write_variant(const Golden& golden, const std::filesystem::path& case_folder, const std::string& variant,
                   const std::filesystem::path& directory);

// The tokens as a bare uint16 file.
void write_tokens(const std::filesystem::path& path, const std::vector<int32_t>& tokens);

// The numbers of a NumPy file of f32, whose description must hold `shape`, "(2, 50, 96)".
std::vector<float> read_npy(const std::filesystem::path& path, const std::string& shape);

}  // namespace sluice::test
