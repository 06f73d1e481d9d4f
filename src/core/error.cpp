#include "core/error.h"

#include <cstring>

namespace sluice {

Error::Error(ErrorKind kind, const char* file, int line, std::string message)
    : kind_(kind), file_(file), line_(line), message_(std::move(message)) {}

std::string Error::where() const {
  // Build trees differ; keep the path from the repository's own folders on.
  for (const char* folder : {"/src/", "/kernels/", "/tools/", "/tests/"}) {
    if (const char* found = std::strstr(file_, folder)) return fmt::format("{}:{}", found + 1, line_);
  }
  return fmt::format("{}:{}", file_, line_);
}

void throw_error(ErrorKind kind, const char* file, int line, std::string message) {
  throw Error(kind, file, line, std::move(message));
}

}  // namespace sluice
