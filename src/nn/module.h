// A part of a model: owns its parameters and knows its children, so that every parameter has a full name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/parameter.h"

namespace sluice::nn {

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Every parameter of this module and its children, in order of use in the forward pass.
  std::vector<Parameter*> parameters() const;

 protected:
  // Call in order of use. A child's names get "name." in front; an empty name adds nothing.
  Parameter& add_parameter(std::string name, const Shape& shape, ParameterRole role, Initializer initializer);
  void add_child(const std::string& name, Module& child);

 private:
  void prefix_names(const std::string& prefix);

  struct Entry {
    std::unique_ptr<Parameter> parameter;  // or
    Module* child = nullptr;
  };
  std::vector<Entry> entries_;
};

}  // namespace sluice::nn
