// A hash to compare weights by: equal bits give equal hashes, and a change of up to 8 neighbouring bytes
// gives another one for sure.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace sluice {

// Of a flat tensor on any device; waits for it.
uint64_t hash_of_weights(const Tensor& weights);

}  // namespace sluice
