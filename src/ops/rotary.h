// Rotary position embedding (formula and layout in kernels/rope/rotary.h).
#pragma once

#include <vector>

#include "autograd/variable.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

// Cosines and sines of the positions of one batch, made once and shared by queries, keys, forward and
// backward.
struct RotaryTable {
  int64_t head_dim = 0;
  Tensor place;    // i32 [N]: each token's row of the tables
  Tensor cosines;  // [distinct positions, head_dim / 2], float where the batch is bfloat16
  Tensor sines;    // [distinct positions, head_dim / 2]

  int64_t tokens() const { return place.size(0); }
};

// positions [N], each >= 0; head_dim even; inverse frequencies theta^(-2i / head_dim). Everything is computed
// in double and rounded at the end (to `dtype`, or f32 for bf16), so that positions of a million and beyond
// keep their phase.
RotaryTable make_rotary_table(const std::vector<int64_t>& positions, int64_t head_dim, double theta,
                              DType dtype, Device device);

// The table of a layout whose sequences all begin at position 0, or go on from a part before; made once and
// kept with the layout.
const RotaryTable& rotary_table_of(const SequenceLayout& layout, int64_t head_dim, double theta, DType dtype,
                                   Device device);

// x [N, heads * head_dim] -> the same, each head turned by its token's position.
Variable rotary(const Variable& x, const RotaryTable& table, int64_t heads);

// The parts of a merged projection, as split_columns() gives them, the first of its columns turned: `heads`
// of them, which are those of queries and keys. The definition: parts = split_columns(x, widths), and
// rotary() of those turned.
// In place: x's memory holds the turned columns afterwards, and its gradient is turned back in place, so that
// nothing more is kept, copied or computed again. x must be a result that neither the op that made it nor
// anyone else reads, as a linear layer's is; Error(kInternal) for a leaf.
std::vector<Variable> split_rotary(const Variable& x, const std::vector<int64_t>& widths,
                                   const RotaryTable& table, int64_t heads);

}  // namespace sluice::ops
