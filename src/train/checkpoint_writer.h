// Writes the files of one checkpoint; checkpoint_store.h decides where and when.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "train/checkpoint_contents.h"

namespace sluice {

// Into `directory`, which exists and is empty: every file and directory is synced, manifest.json last.
// `after_weights`, if any, is called when the weights are written and nothing else is. Error(kCheckpoint).
void write_checkpoint(const std::filesystem::path& directory, const CheckpointContents& contents,
                      const std::function<void()>& after_weights);

// Bytes of the tensors and copied files, about what a checkpoint takes on disk.
int64_t checkpoint_bytes(const CheckpointContents& contents);

}  // namespace sluice
