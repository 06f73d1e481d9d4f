// Small checkpoints whose every value follows from the step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/checkpoint_contents.h"

namespace sluice::test {

// `elements` of the largest weight, for files of a wanted size; `salt` makes other values of the same step.
CheckpointContents sample_checkpoint(int64_t step, int64_t elements = 300, int64_t salt = 0);

// "" when the weights, moments and state in `directory` are those of sample_checkpoint(step, elements, salt);
// else what differs.
std::string difference_from_sample(const std::filesystem::path& directory, int64_t step,
                                   int64_t elements = 300, int64_t salt = 0);

}  // namespace sluice::test
