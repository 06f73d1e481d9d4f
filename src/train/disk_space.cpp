#include "train/disk_space.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <string>

#include "core/file.h"

namespace sluice {

std::optional<int64_t> free_bytes(const std::filesystem::path& path) {
  std::error_code code;
  std::filesystem::path directory = std::filesystem::absolute(path, code);
  if (code) return std::nullopt;
  while (!std::filesystem::is_directory(directory, code) && directory.has_relative_path()) {
    directory = directory.parent_path();
  }
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) return std::nullopt;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(status.f_bavail, status.f_frsize, &bytes)) return std::nullopt;
  return bytes;
}

void probe_writable(const std::filesystem::path& probe) {
  try {
    OutputFile file(probe, ErrorKind::kCheckpoint);
    file.write(std::string(1 << 20, 'x'));
    file.sync();
    file.close();
  } catch (const Error&) {
    ::unlink(probe.c_str());
    throw;
  }
  ::unlink(probe.c_str());
}

}  // namespace sluice
