#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice {
namespace {

[[noreturn]] void fail_with_errno(ErrorKind kind, const char* what, const std::filesystem::path& path,
                                  int line) {
  const int code = errno;
  throw_error(kind, __FILE__, line,
              fmt::format("{}: cannot {}: {}", path.string(), what, std::strerror(code)));
}

int open_or_throw(const std::filesystem::path& path, int flags, ErrorKind kind, const char* what) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) fail_with_errno(kind, what, path, __LINE__);
  return descriptor;
}

void close_quietly(int& descriptor) {
  if (descriptor >= 0) ::close(std::exchange(descriptor, -1));
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path, ErrorKind kind) : path_(path), kind_(kind) {
  descriptor_ = open_or_throw(path, O_RDONLY, kind, "open for reading");
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    close_quietly(descriptor_);
    fail_with_errno(kind, "stat", path, __LINE__);
  }
  if (S_ISDIR(status.st_mode)) {
    close_quietly(descriptor_);
    throw_error(kind, __FILE__, __LINE__, fmt::format("{}: is a directory, a file is needed", path.string()));
  }
  size_ = status.st_size;
}

InputFile::~InputFile() { close_quietly(descriptor_); }

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      kind_(other.kind_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  if (this != &other) {
    close_quietly(descriptor_);
    path_ = std::move(other.path_);
    kind_ = other.kind_;
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
  }
  return *this;
}

void InputFile::read_at(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(descriptor_, out.data() + done, out.size() - done, offset + static_cast<int64_t>(done));
    if (got < 0) {
      if (errno == EINTR) continue;
      fail_with_errno(kind_, "read", path_, __LINE__);
    }
    if (got == 0) {
      throw_error(kind_, __FILE__, __LINE__,
                  fmt::format("{}: ends at byte {}, but bytes {} to {} are needed", path_.string(),
                              offset + static_cast<int64_t>(done), offset,
                              offset + static_cast<int64_t>(out.size())));
    }
    done += static_cast<size_t>(got);
  }
}

OutputFile::OutputFile(const std::filesystem::path& path, ErrorKind kind, Mode mode)
    : path_(path), kind_(kind) {
  const int flags = O_WRONLY | O_CREAT | (mode == Mode::kTruncate ? O_TRUNC : 0);
  descriptor_ = open_or_throw(path, flags, kind, "open for writing");
  if (mode == Mode::kAppend) {
    size_ = ::lseek(descriptor_, 0, SEEK_END);
    if (size_ < 0) {
      close_quietly(descriptor_);
      fail_with_errno(kind, "seek", path, __LINE__);
    }
  }
}

OutputFile::~OutputFile() { close_quietly(descriptor_); }

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      kind_(other.kind_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    close_quietly(descriptor_);
    path_ = std::move(other.path_);
    kind_ = other.kind_;
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
  }
  return *this;
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(descriptor_, bytes.data(), bytes.size());
    if (wrote < 0) {
      if (errno == EINTR) continue;
      fail_with_errno(kind_, "write", path_, __LINE__);
    }
    size_ += wrote;
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
}

void OutputFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      fail_with_errno(kind_, "write", path_, __LINE__);
    }
    offset += wrote;
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
}

void OutputFile::sync() {
  if (::fsync(descriptor_) != 0) fail_with_errno(kind_, "sync", path_, __LINE__);
}

void OutputFile::close() {
  if (descriptor_ < 0) return;
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_with_errno(kind_, "close", path_, __LINE__);
}

std::string read_text_file(const std::filesystem::path& path, ErrorKind kind) {
  const InputFile file(path, kind);
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read_at(0, std::span(text.data(), text.size()));
  return text;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content, ErrorKind kind) {
  std::filesystem::path temporary = path;
  temporary += fmt::format(".tmp-{}", ::getpid());
  try {
    OutputFile file(temporary, kind);
    file.write(content);
    file.sync();
    file.close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_with_errno(kind, "rename to", path, __LINE__);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_directory(path.has_parent_path() ? path.parent_path() : ".", kind);
}

void sync_directory(const std::filesystem::path& directory, ErrorKind kind) {
  int descriptor = open_or_throw(directory, O_RDONLY | O_DIRECTORY, kind, "open directory");
  const int result = ::fsync(descriptor);
  const int code = errno;
  close_quietly(descriptor);
  errno = code;
  if (result != 0) fail_with_errno(kind, "sync directory", directory, __LINE__);
}

void create_directories(const std::filesystem::path& directory, ErrorKind kind) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (code) {
    throw_error(kind, __FILE__, __LINE__,
                fmt::format("{}: cannot create directory: {}", directory.string(), code.message()));
  }
}

}  // namespace sluice
