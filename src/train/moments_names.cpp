#include "train/moments_names.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace sluice {

std::string moments_shard_name(int rank, int ranks) {
  return fmt::format("trainer/optimizer-{:05d}-of-{:05d}.safetensors", rank + 1, ranks);
}

bool has_all_moments(const std::vector<std::string>& names) {
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (has(kWholeMomentsFile)) return true;
  for (const std::string& name : names) {
    const auto ranks = moments_shards_of(name);
    if (!ranks) continue;
    int found = 0;
    for (int rank = 0; rank < *ranks; ++rank) found += has(moments_shard_name(rank, *ranks));
    return found == *ranks;
  }
  return false;
}

std::optional<int> moments_shards_of(const std::string& name) {
  constexpr std::string_view kBegin = "trainer/optimizer-00001-of-";
  if (!name.starts_with(kBegin)) return std::nullopt;
  int ranks = 0;
  const char* begin = name.data() + kBegin.size();
  std::from_chars(begin, name.data() + name.size(), ranks);
  if (ranks < 1 || name != moments_shard_name(0, ranks)) return std::nullopt;
  return ranks;
}

}  // namespace sluice
