// Names in a directory of checkpoints:
//   step_00001000                  a checkpoint
//   .old-step_00001000             the one it replaces, while that happens
//   .tmp-step_00001000-<nonce>     being written, or being removed
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

inline constexpr std::string_view kTemporaryPrefix = ".tmp-";
inline constexpr std::string_view kReplacedPrefix = ".old-";

std::string checkpoint_name(int64_t step);  // "step_00001000"
// The step in such a name, in any of its forms but the temporary one.
std::optional<int64_t> step_of_name(std::string_view name);
std::string temporary_name(std::string_view purpose);  // ".tmp-<purpose>-<nonce>"

// The checkpoints of a directory, newest first; empty where there is no such directory. One that was being
// replaced when its process died is among them under its .old- name. Error(kCheckpoint).
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory);

// Names of all entries, sorted; empty where there is no such directory. Error(kCheckpoint).
std::vector<std::string> entry_names(const std::filesystem::path& directory);

}  // namespace sluice
