// The names of the files of a checkpoint that hold the optimizer's moments: one, or where ranks share them
// one of each rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice {

inline constexpr const char* kWholeMomentsFile = "trainer/optimizer.safetensors";

// "trainer/optimizer-00002-of-00004.safetensors" for rank 1 of 4.
std::string moments_shard_name(int rank, int ranks);

// How many shards there are, when `name` is that of the first.
std::optional<int> moments_shards_of(const std::string& name);

// Whether these names, of a checkpoint's files, hold all moments in one of the two forms.
bool has_all_moments(const std::vector<std::string>& names);

}  // namespace sluice
