// Whether a checkpoint is whole, and which one to take. Only reads.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "train/checkpoint_manifest.h"

namespace sluice {

enum class VerifyLevel {
  kSize,  // the manifest's own hash, and that each file is there with its size
  kFull,  // the hash of each file too
};
VerifyLevel parse_verify_level(const std::string& name);  // "size" or "full"; Error(kUsage)

// Error(kCheckpoint) names the first file that is not as the manifest says, with both sizes or both hashes.
// Files the manifest does not list are none of its business; symbolic links in place of listed ones are
// refused.
Manifest verify_checkpoint(const std::filesystem::path& directory, VerifyLevel level);

struct FoundCheckpoint {
  std::filesystem::path directory;
  Manifest manifest;
};

// The newest checkpoint in `directory` that is whole and not poisoned. `report` becomes one line for each
// newer one that was refused: why, naming the file. Error(kCheckpoint) where the directory cannot be read.
std::optional<FoundCheckpoint> newest_valid_checkpoint(const std::filesystem::path& directory,
                                                       VerifyLevel level, std::string& report);

// From what a user names to the directory that holds config.json and the weights: a checkpoint, which is
// verified; a run or its checkpoints/, for the newest valid one; or a Hugging Face directory, returned
// unchecked. Error(kCheckpoint) says what was looked for, or what was refused.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path, VerifyLevel level);

}  // namespace sluice
