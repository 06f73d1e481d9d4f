// Checks shared by the ops that carry recurrent state over packed sequences.
#pragma once

#include "autograd/variable.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

// An initial state, when defined, must have shape `shape` ([slots, ...]) and this dtype.
void require_state(const char* op, const Variable& state, const Shape& shape, DType dtype);

// The gradient of a slot that several sequences start from would be a sum across sequences, which kernels do
// not form.
void require_slots_read_once(const char* op, const SequenceLayout& layout);

}  // namespace sluice::ops
