// What ops derive from a layout and keep with it.
#pragma once

#include <optional>

#include "ops/rotary.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

struct SequenceLayout::Derived {
  SequenceIndices indices;
  // Positions counted from each sequence's first token, for the one kind of head a model has.
  std::optional<RotaryTable> rotary;
  double rotary_theta = 0;
};

}  // namespace sluice::ops
