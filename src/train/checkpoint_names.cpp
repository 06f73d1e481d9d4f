#include "train/checkpoint_names.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <random>

#include "core/error.h"

namespace sluice {
namespace {

constexpr std::string_view kStepPrefix = "step_";
constexpr size_t kLeastDigits = 8;

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:08d}", kStepPrefix, step); }

std::optional<int64_t> step_of_name(std::string_view name) {
  if (name.starts_with(kReplacedPrefix)) name.remove_prefix(kReplacedPrefix.size());
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  name.remove_prefix(kStepPrefix.size());
  int64_t step = 0;
  const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = code == std::errc() && end == name.data() + name.size();
  if (!whole || name.size() < kLeastDigits || step < 0) return std::nullopt;
  return step;
}

std::string temporary_name(std::string_view purpose) {
  std::random_device random;
  return fmt::format("{}{}-{:08x}{:08x}", kTemporaryPrefix, purpose, random(), random());
}

std::vector<std::string> entry_names(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  std::error_code code;
  std::filesystem::directory_iterator entry(directory, code);
  for (; !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    names.push_back(entry->path().filename().string());
  }
  if (code == std::errc::no_such_file_or_directory) return {};
  SLUICE_CHECK(!code, kCheckpoint, "{}: cannot list the directory: {}", directory.string(), code.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory) {
  std::map<int64_t, std::string> by_step;
  for (const std::string& name : entry_names(directory)) {
    // ".old-..." sorts before "step_...", which therefore wins.
    if (const auto step = step_of_name(name)) by_step[*step] = name;
  }
  std::vector<std::filesystem::path> paths;
  for (auto entry = by_step.rbegin(); entry != by_step.rend(); ++entry) {
    paths.push_back(directory / entry->second);
  }
  return paths;
}

}  // namespace sluice
