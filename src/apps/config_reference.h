// docs/config.md: every key that a run's file may hold, from what reading one asks for.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// Markdown. Error(kInternal) names a key without a description.
std::string config_reference();

// What a key is for, nothing where it is not described: "optimizer.lr", "model.hidden_size",
// "model.gla.expand_k" where it is one family's.
std::optional<std::string_view> describe_key(std::string_view path);

}  // namespace sluice
