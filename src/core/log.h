// Messages for people, on standard error. Results that a script may read go to standard output instead.
#pragma once

#include <fmt/core.h>

#include <string_view>

namespace sluice::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// Lines below `level` are dropped. The default is kInfo, or SLUICE_LOG_LEVEL=debug|info|warning|error.
void set_level(Level level);

void write(Level level, std::string_view message);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sluice::log
