// What the file system of a directory has room for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace sluice {

// Bytes an ordinary user may still write (statvfs); of the nearest directory above where `path` is not there;
// nothing where that cannot be told.
std::optional<int64_t> free_bytes(const std::filesystem::path& path);

// Writes 1 MiB to the file `probe`, syncs and removes it. Error(kCheckpoint).
void probe_writable(const std::filesystem::path& probe);

}  // namespace sluice
