// Slots of recurrent state in device code; state_slots_cpu.h is the twin.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cuda_check.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

inline constexpr int SLOT_THREADS = 256;

template <class T>
__global__ void __launch_bounds__(SLOT_THREADS)
    zero_slots(T* states, int64_t elements, const int64_t* named, int64_t count) {
  const int64_t slot = blockIdx.x;
  bool is_named = false;
  for (int64_t s = threadIdx.x; s < count; s += SLOT_THREADS) is_named = is_named || named[s] == slot;
  if (__syncthreads_or(is_named)) return;
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * SLOT_THREADS + threadIdx.x; i < elements;
       i += static_cast<int64_t>(gridDim.y) * SLOT_THREADS) {
    states[slot * elements + i] = T{};
  }
}

// Zeroes the slots of `states` [slots, elements] that none of `named` [count, on the device] names (-1: no
// slot).
template <class T>
void zero_unnamed_slots(T* states, int64_t slots, int64_t elements, const int64_t* named, int64_t count,
                        Stream stream) {
  if (slots <= 0 || elements <= 0) return;
  constexpr int64_t kMostShares = 64;
  const int64_t shares = std::min((elements + SLOT_THREADS * 8 - 1) / (SLOT_THREADS * 8), kMostShares);
  zero_slots<<<dim3(static_cast<unsigned>(slots), static_cast<unsigned>(shares)), SLOT_THREADS, 0, stream>>>(
      states, elements, named, count);
  SLUICE_CHECK_LAUNCH("zero_unnamed_slots");
}

}  // namespace sluice::kernels
