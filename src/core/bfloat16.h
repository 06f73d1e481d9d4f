// bfloat16: the upper half of a float. Storage only on the CPU; arithmetic happens in float.
#pragma once

#include <cstdint>

namespace sluice {

struct bfloat16 {
  uint16_t bits = 0;
};

// Exact.
float to_float(bfloat16 value);
// Rounds to nearest, ties to even; NaN stays a quiet NaN.
bfloat16 to_bfloat16(float value);

}  // namespace sluice
