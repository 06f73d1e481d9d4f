// Depthwise causal convolution followed by SiLU, over packed sequences (formula in
// kernels/conv/short_convolution.h).
#pragma once

#include "autograd/variable.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

struct ShortConvolutionResult {
  Variable output;       // [N, C], dense
  Variable final_state;  // [slots, W - 1, C], zero where no sequence ends; undefined unless wanted
};

// x [N, C], weight [C, W]; initial_state [slots, W - 1, C] holds the inputs before each slot's sequence in
// order of time, the newest last, or is undefined: zeros, or where the layout says that rows are parts of
// longer ones, the inputs at the end of the part before. `silu` false leaves the activation out. Gradients
// flow to all three inputs, from both results.
ShortConvolutionResult short_convolution(const Variable& x, const Variable& weight,
                                         const Variable& initial_state, const SequenceLayout& layout,
                                         bool want_final_state, bool silu = true);

}  // namespace sluice::ops
