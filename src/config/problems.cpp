#include "config/problems.h"

#include <algorithm>

#include "config/json.h"

namespace sluice {
namespace {

// More than anyone mends in one go; a wrong file may hold a problem per key.
constexpr size_t kMaximumListed = 50;

bool is_inside(std::string_view path, std::string_view section) {
  return path.starts_with(section) && (path.size() == section.size() || path[section.size()] == '.');
}

}  // namespace

void Problems::add(std::string path, std::string message) {
  entries_.push_back({std::move(path), std::move(message)});
}

bool Problems::concerns(std::string_view path) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return is_inside(path, entry.path) || is_inside(entry.path, path);
  });
}

void Problems::throw_if_any(const std::string& origin, ErrorKind kind) const {
  if (entries_.empty()) return;
  std::string text =
      fmt::format("{}: {} problem{}", origin, entries_.size(), entries_.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(entries_.size(), kMaximumListed); ++i) {
    const Entry& entry = entries_[i];
    const std::string path = entry.path.empty() ? "" : printable(entry.path, 200) + ": ";
    text += fmt::format("\n  {}{}", path, entry.message);
  }
  if (entries_.size() > kMaximumListed) {
    text += fmt::format("\n  and {} more", entries_.size() - kMaximumListed);
  }
  throw_error(kind, __FILE__, __LINE__, std::move(text));
}

}  // namespace sluice
