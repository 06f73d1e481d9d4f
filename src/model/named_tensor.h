// A tensor under its name in a checkpoint.
#pragma once

#include <string>

#include "tensor/tensor.h"

namespace sluice {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

}  // namespace sluice
