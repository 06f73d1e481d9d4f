// The checkpoints of a run. A save either returns with the checkpoint whole and durable, or throws and leaves
// all earlier ones as they were; a process that dies at any point in between leaves the old state or the new.
//
//   CheckpointStore store("runs/books/checkpoints", {.keep_last = 2});
//   store.clean_up();
//   store.check_space(bytes_of_one);
//   store.save(contents);  // runs/books/checkpoints/step_00001000
//
// Files are staged in a temporary directory, synced, renamed, and the parent is synced. No pointer to the
// newest one is kept: it is found by checking. One process uses a store at a time; reading is free.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "train/checkpoint_read.h"
#include "train/checkpoint_verify.h"

namespace sluice {

struct CheckpointContents;

struct CheckpointOptions {
  int64_t keep_last = 2;   // valid ones that are always kept, >= 1
  int64_t keep_every = 0;  // steps; those at multiples are kept for good; 0: none
  VerifyLevel verify = VerifyLevel::kFull;
  std::function<void()> during_save = {};  // called when the weights are staged: where tests inject faults
};

class CheckpointStore {
 public:
  // Touches nothing yet.
  CheckpointStore(std::filesystem::path directory, CheckpointOptions options);

  const std::filesystem::path& directory() const { return directory_; }

  // Writes the checkpoint of contents.state.step, replacing one of that step, then prunes: of the checkpoints
  // up to this one, those stay that are among the newest `keep_last` valid ones, and multiples of
  // `keep_every`. Error(kCheckpoint) names the path, the bytes needed and the bytes free.
  std::filesystem::path save(const CheckpointContents& contents);

  // Removes what a process that died left behind, and puts back a checkpoint it was about to replace. Once,
  // at the start of a run.
  void clean_up();

  // Before the first step: writes and removes a probe of 1 MiB. Error(kCheckpoint) when the directory is not
  // writable or one more checkpoint does not fit; else a warning when `keep_last` + 1 do not, or "".
  std::string check_space(int64_t bytes_per_checkpoint);

  std::vector<std::filesystem::path> list() const;  // newest first, valid or not

  // See newest_valid_checkpoint.
  std::optional<FoundCheckpoint> newest_valid(std::string& report);

  static Manifest verify(const std::filesystem::path& checkpoint, VerifyLevel level = VerifyLevel::kFull) {
    return verify_checkpoint(checkpoint, level);
  }
  static std::filesystem::path resolve(const std::filesystem::path& path,
                                       VerifyLevel level = VerifyLevel::kFull) {
    return resolve_checkpoint(path, level);
  }

 private:
  void make_directory() const;
  std::filesystem::path write(const CheckpointContents& contents) const;
  void put_in_place(const std::filesystem::path& staged, const std::filesystem::path& target) const;
  void prune(int64_t newest_step);
  bool is_good(const std::filesystem::path& checkpoint);
  void remove_checkpoint(const std::filesystem::path& checkpoint) const;

  std::filesystem::path directory_;
  CheckpointOptions options_;
  std::set<std::filesystem::path> trusted_;  // written or verified by this object
};

}  // namespace sluice
