// Inputs for tests: reproducible, of both signs.
#pragma once

#include <limits>

#include "tensor/tensor.h"

namespace sluice::test {

// Standard normal times `scale` plus `shift`. The same seed gives the same values (rounded) in every dtype.
Tensor random_normal(const Shape& shape, DType dtype, uint64_t seed, double scale = 1.0, double shift = 0.0);
Tensor random_uniform(const Shape& shape, DType dtype, uint64_t seed, double low, double high);
Tensor random_integers(const Shape& shape, uint64_t seed, int32_t low, int32_t high);  // i32 in [low, high)
// All NaN: what an output is before the kernel under test has written it.
Tensor poisoned(const Shape& shape, DType dtype);

}  // namespace sluice::test
