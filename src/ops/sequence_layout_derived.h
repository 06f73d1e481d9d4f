// What ops derive from a layout and keep with it.
#pragma once

#include <optional>

#include "ops/earlier_rows.h"
#include "ops/rotary.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

struct SequenceLayout::Derived {
  SequenceIndices indices;
  // Positions counted from each sequence's first token, for the one kind of head a model has.
  std::optional<RotaryTable> rotary;
  double rotary_theta = 0;
  // For the one window a model has.
  std::optional<EarlierRows> earlier;
  int64_t earlier_window = 0;
};

}  // namespace sluice::ops
