// The optimizer's moments in a checkpoint: one file of named tensors, or, where ranks share them, one file of
// each rank with its slices of the flat buffers (optim/parameter_arena.h). Either is read by any number of
// ranks.
#pragma once

#include <filesystem>

#include "model/language_model.h"
#include "optim/parameter_arena.h"
#include "train/checkpoint_manifest.h"

namespace sluice {

// Writes this rank's slices into checkpoint `directory` and syncs them. Error(kCheckpoint).
ManifestFile write_moments_shard(const std::filesystem::path& directory, const ParameterArena& arena);

struct Moments {
  Tensor first, second;  // flat, on the CPU, of the arena's elements()
};

// Of whichever form is there. Error(kCheckpoint) where it is of another model.
Moments read_moments(const std::filesystem::path& checkpoint, const LanguageModel& model,
                     const ParameterArena& arena);

}  // namespace sluice
