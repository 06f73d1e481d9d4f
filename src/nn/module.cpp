#include "nn/module.h"

namespace sluice::nn {

std::vector<Parameter*> Module::parameters() const {
  std::vector<Parameter*> all;
  for (const Entry& entry : entries_) {
    if (entry.parameter) all.push_back(entry.parameter.get());
    if (!entry.child) continue;
    const auto below = entry.child->parameters();
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

Parameter& Module::add_parameter(std::string name, const Shape& shape, ParameterRole role,
                                 Initializer initializer) {
  entries_.push_back({std::make_unique<Parameter>(std::move(name), shape, role, initializer), nullptr});
  return *entries_.back().parameter;
}

void Module::add_child(const std::string& name, Module& child) {
  if (!name.empty()) child.prefix_names(name + ".");
  entries_.push_back({nullptr, &child});
}

void Module::prefix_names(const std::string& prefix) {
  for (Entry& entry : entries_) {
    if (entry.parameter) entry.parameter->prefix_names(prefix);
    if (entry.child) entry.child->prefix_names(prefix);
  }
}

}  // namespace sluice::nn
