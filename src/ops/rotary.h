// Rotary position embedding (formula and layout in kernels/rope/rotary.h).
#pragma once

#include <vector>

#include "autograd/variable.h"

namespace sluice::ops {

// Cosines and sines of the positions of one batch, made once and shared by queries, keys, forward and
// backward.
struct RotaryTable {
  int64_t head_dim = 0;
  Tensor place;    // i32 [N]: each token's row of the tables
  Tensor cosines;  // [distinct positions, head_dim / 2]
  Tensor sines;    // [distinct positions, head_dim / 2]

  int64_t tokens() const { return place.size(0); }
};

// positions [N], each >= 0; head_dim even; inverse frequencies theta^(-2i / head_dim). Everything is computed
// in double and rounded to `dtype` at the end, so that positions of a million and beyond keep their phase.
RotaryTable make_rotary_table(const std::vector<int64_t>& positions, int64_t head_dim, double theta,
                              DType dtype, Device device);

// x [N, heads * head_dim] -> the same, each head turned by its token's position.
Variable rotary(const Variable& x, const RotaryTable& table, int64_t heads);

}  // namespace sluice::ops
