#include "train/checkpoint_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/file.h"
#include "core/log.h"
#include "core/progress.h"
#include "train/checkpoint_names.h"
#include "train/checkpoint_writer.h"
#include "train/disk_space.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void rename_or_throw(const fs::path& from, const fs::path& to) {
  std::error_code code;
  fs::rename(from, to, code);
  SLUICE_CHECK(!code, kCheckpoint, "{}: cannot rename to {}: {}", from.string(), to.string(), code.message());
}

fs::path replaced_path(const fs::path& checkpoint) {
  return checkpoint.parent_path() / (std::string(kReplacedPrefix) + checkpoint.filename().string());
}

// Gone with the object unless it was moved to its place.
class StagingDirectory {
 public:
  explicit StagingDirectory(fs::path path) : path_(std::move(path)) {
    create_directories(path_, ErrorKind::kCheckpoint);
  }
  ~StagingDirectory() { remove_quietly(path_); }
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

CheckpointStore::CheckpointStore(fs::path directory, CheckpointOptions options)
    : directory_(std::move(directory)), options_(std::move(options)) {
  SLUICE_CHECK(options_.keep_last >= 1, kUsage, "checkpoint.keep_last is {}; at least 1 must be kept",
               options_.keep_last);
  SLUICE_CHECK(options_.keep_every >= 0, kUsage,
               "checkpoint.keep_every is {}; 0 or a number of steps is needed", options_.keep_every);
}

fs::path CheckpointStore::save(const CheckpointContents& contents) {
  const fs::path target = directory_ / checkpoint_name(contents.state.step);
  try {
    write(contents);
  } catch (const Error& error) {
    const int64_t needed = checkpoint_bytes(contents);
    std::string message =
        fmt::format("{}: the checkpoint was not saved: {}. It needs {} bytes ({})", target.string(),
                    error.what(), needed, format_bytes(static_cast<double>(needed)));
    if (const auto free = free_bytes(directory_)) {
      message += fmt::format("; {} bytes ({}) are free", *free, format_bytes(static_cast<double>(*free)));
    }
    throw_error(error.kind(), __FILE__, __LINE__, message + ". Earlier checkpoints are untouched");
  }
  trusted_.insert(target);
  prune(contents.state.step);
  return target;
}

fs::path CheckpointStore::write(const CheckpointContents& contents) const {
  make_directory();
  const std::string name = checkpoint_name(contents.state.step);
  const StagingDirectory staging(directory_ / temporary_name(name));
  write_checkpoint(staging.path(), contents, options_.during_save);
  put_in_place(staging.path(), directory_ / name);
  return directory_ / name;
}

// A directory cannot be renamed over one that is not empty, so an old checkpoint of the same step steps aside
// first. Wherever this stops, one of the two is whole under a name that list_checkpoints knows.
void CheckpointStore::put_in_place(const fs::path& staged, const fs::path& target) const {
  const fs::path old = replaced_path(target);
  const bool replaces = is_there(target);
  if (replaces) {
    remove_quietly(old);  // outdated: the target is there
    rename_or_throw(target, old);
  }
  try {
    rename_or_throw(staged, target);
  } catch (const Error&) {
    std::error_code ignored;  // clean_up() does it where this fails
    if (replaces) fs::rename(old, target, ignored);
    throw;
  }
  sync_directory(directory_, ErrorKind::kCheckpoint);
  remove_checkpoint(old);
}

void CheckpointStore::make_directory() const {
  if (is_there(directory_)) return;
  create_directories(directory_, ErrorKind::kCheckpoint);
  const fs::path parent = fs::absolute(directory_).parent_path();
  sync_directory(parent, ErrorKind::kCheckpoint);
}

void CheckpointStore::clean_up() {
  for (const std::string& name : entry_names(directory_)) {
    const fs::path path = directory_ / name;
    if (name.starts_with(kTemporaryPrefix)) {
      remove_quietly(path);
    } else if (name.starts_with(kReplacedPrefix) && step_of_name(name)) {
      const fs::path target = directory_ / name.substr(kReplacedPrefix.size());
      if (is_there(target)) {
        remove_checkpoint(path);
      } else {
        rename_or_throw(path, target);
        sync_directory(directory_, ErrorKind::kCheckpoint);
      }
    }
  }
}

std::string CheckpointStore::check_space(int64_t bytes_per_checkpoint) {
  make_directory();
  probe_writable(directory_ / temporary_name("probe"));
  const auto free = free_bytes(directory_);
  if (!free) return "";
  // Headers, small files and the blocks of the file system on top of the tensors.
  const int64_t one = bytes_per_checkpoint + bytes_per_checkpoint / 100 + (1 << 20);
  SLUICE_CHECK(
      *free >= one, kCheckpoint,
      "{}: a checkpoint needs {} bytes ({}), {} bytes ({}) are free; make room or set train.output_dir",
      directory_.string(), one, format_bytes(static_cast<double>(one)), *free,
      format_bytes(static_cast<double>(*free)));
  const int64_t present = std::min(static_cast<int64_t>(list().size()), options_.keep_last);
  const int64_t more = options_.keep_last + 1 - present;
  if (*free / one >= more) return "";
  return fmt::format(
      "{}: {} bytes ({}) are free, room for {} checkpoints of {}; the run will hold {} more at a time",
      directory_.string(), *free, format_bytes(static_cast<double>(*free)), *free / one,
      format_bytes(static_cast<double>(one)), more);
}

std::vector<fs::path> CheckpointStore::list() const { return list_checkpoints(directory_); }

std::optional<FoundCheckpoint> CheckpointStore::newest_valid(std::string& report) {
  auto found = newest_valid_checkpoint(directory_, options_.verify, report);
  if (found) trusted_.insert(found->directory);
  return found;
}

// Nothing is removed before `keep_last` newer ones were found valid. Those beyond the step just saved belong
// to another branch of the run, which was left by resuming from before it: they are neither counted nor
// removed.
void CheckpointStore::prune(int64_t newest_step) {
  int64_t valid = 0;
  for (const fs::path& checkpoint : list()) {
    const int64_t step = step_of_name(checkpoint.filename().string()).value();
    if (step > newest_step) continue;
    if (valid < options_.keep_last) {
      if (is_good(checkpoint)) ++valid;
    } else if (options_.keep_every == 0 || step % options_.keep_every != 0) {
      remove_checkpoint(checkpoint);
    }
  }
}

// What this object wrote or hashed before is only looked at for its sizes.
bool CheckpointStore::is_good(const fs::path& checkpoint) {
  const bool trusted = trusted_.contains(checkpoint);
  try {
    const Manifest manifest = verify_checkpoint(checkpoint, trusted ? VerifyLevel::kSize : options_.verify);
    if (manifest.poisoned) return false;
  } catch (const Error& error) {
    log::warning("{}; it is not counted among the checkpoints to keep", error.what());
    return false;
  }
  trusted_.insert(checkpoint);
  return true;
}

// Out of sight first, so that nobody finds half of it. A failure costs disk space and not the run.
void CheckpointStore::remove_checkpoint(const fs::path& checkpoint) const {
  if (!is_there(checkpoint)) return;
  const fs::path aside = directory_ / temporary_name(checkpoint.filename().string());
  std::error_code code;
  fs::rename(checkpoint, aside, code);
  if (!code) fs::remove_all(aside, code);
  if (code) log::warning("{}: cannot remove an old checkpoint: {}", checkpoint.string(), code.message());
}

}  // namespace sluice
