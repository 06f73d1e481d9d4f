// Slots of recurrent state, as the kernels that carry state over packed sequences see them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::kernels::cpu {

// Zeroes the slots of `states` [slots, elements] that none of `named` [count] names (-1: no slot).
template <class T>
void zero_unnamed_slots(T* states, int64_t slots, int64_t elements, const int64_t* named, int64_t count) {
  std::vector<char> is_named(static_cast<size_t>(slots), 0);
  for (int64_t s = 0; s < count; ++s) {
    if (named[s] >= 0) is_named[static_cast<size_t>(named[s])] = 1;
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (!is_named[static_cast<size_t>(slot)]) std::fill_n(states + slot * elements, elements, T(0));
  }
}

}  // namespace sluice::kernels::cpu
