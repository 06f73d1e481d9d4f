// The recurrence token by token in float, for float and for rows the chunked kernels do not take. One kernel
// walks a state X of R rows and C columns along a sequence:
//   X = decay X + sum over heads of z^T w,   out = y X
//
// | walk | z | w  | y  | out | decay acts on | direction | out is of                 |
// | o    | k | v  | q  | o   | rows          | forward   | X                         |
// | dv   | q | dO | k  | dv  | rows          | reverse   | X                         |
// | dq   | v | k  | dO | dq  | columns       | forward   | X before z^T w comes in   |
// | dk   | dO| q  | v  | dk  | columns       | reverse   | X before z^T w comes in   |
//
// dq and dk so lack a token's own part, which is added at the end: it has no share in the gradient of the
// gates, and where decays are strong it would drown the rest.
#pragma once

#include <cstdint>

#include "kernels/linear_attention/gated_linear_attention.h"
#include "kernels/linear_attention/gated_linear_attention_plan.h"

namespace sluice::kernels::gla {

template <class T>
void run_recurrence(const GatedLinearAttentionForward<T>& params);
template <class T>
void run_recurrence(const GatedLinearAttentionBackward<T>& params, const GatedLinearAttentionPlan& plan);

// Forward for sequences of at most one token.
template <class T>
void run_step(const GatedLinearAttentionForward<T>& params);

}  // namespace sluice::kernels::gla
