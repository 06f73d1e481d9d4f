#include "ops/state_slots.h"

#include "core/error.h"
#include "ops/check.h"

namespace sluice::ops {

void require_state(const char* op, const Variable& state, const Shape& shape, DType dtype) {
  if (!state.defined()) return;
  require_dtype(op, "initial_state", state.value(), dtype);
  require_shape(op, "initial_state", state.value(), shape);
}

void require_slots_read_once(const char* op, const SequenceLayout& layout) {
  std::vector<int64_t> reader(static_cast<size_t>(layout.slots), -1);
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    const int64_t slot = layout.state_in[static_cast<size_t>(s)];
    if (slot < 0) continue;
    int64_t& first = reader[static_cast<size_t>(slot)];
    SLUICE_CHECK(
        first < 0, kInternal,
        "[{}] expected one sequence to start from each slot when the initial state has a gradient, got "
        "slot {} read by sequences {} and {}: give each its own slot",
        op, slot, first, s);
    first = s;
  }
}

}  // namespace sluice::ops
