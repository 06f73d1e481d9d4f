// The names that the enumerations of a run have in its file, in the order of the enumerators.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace sluice {

inline const std::vector<std::string>& names_of(ScheduleKind) {
  static const std::vector<std::string> names = {"cosine", "linear", "constant", "wsd"};
  return names;
}

inline const std::vector<std::string>& names_of(Recompute) {
  static const std::vector<std::string> names = {"none", "selective", "layer"};
  return names;
}

template <class Enum>
const std::string& name_of_value(Enum value) {
  return names_of(value).at(static_cast<size_t>(value));
}

// `name` must be one of names_of(Enum).
template <class Enum>
Enum value_of_name(const std::string& name) {
  const auto& names = names_of(Enum{});
  return static_cast<Enum>(std::find(names.begin(), names.end(), name) - names.begin());
}

}  // namespace sluice
