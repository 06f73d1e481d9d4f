// Kernels for heads that decay as a whole.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_chunked.h"

namespace sluice::kernels::gla {

// As prepare_chunks for the fused walk, without spans: decay, q_hat, k_hat and scores.
void prepare_chunks_of_heads(const Chunked& chunked, Stream stream);

// The same with dO and v in the places of q and k, for the walks that emit dq and dk: decay, q_hat and k_hat,
// but scores and factors of rows as GradientWalk has them.
struct GradientScores {
  bfloat16* of_queries;  // [chunks, H, 2, 64, 64]
  bfloat16* of_keys;
  float* query_factors;  // [chunks, H, ROW_FACTORS]
  float* key_factors;
  // What the gradient of the gates wants.
  const bfloat16* scores;  // of the queries and keys
  float factor;            // of these
  float* diagonal;  // [chunks, H, 64]: scale <dO, v> of each token, for which the scores then have zeros
  float* near;  // [chunks, H]: over pairs i > j of the chunk, scale (q_i . k_j) (dO_i . v_j) e^(b_i - b_j)
};
void prepare_gradients_of_heads(const Chunked& swapped, const GradientScores& to, bool gated, Stream stream);

// The gradient of the gates from what the fused walks leave. A pair (i, j) of a query and a key before it
// adds to dg of the tokens after j up to i. With q . dq and k . dk over all pairs but a token with itself,
//   dg_t = sum_{s >= t} (q . dq)_s + sum_{s < t} (k . dk)_s - near + e^bC sum(S_start . dS_end),
// sums over the chunk: they count pairs inside the chunk that cross t twice, others inside once, and `near`
// takes each off once.
struct HeadGateGradient {
  const float* q_totals;  // [chunks, H, 64, groups]
  const float* k_totals;
  const float* near;   // [chunks, H]
  const float* dots;   // [chunks, H, dots_each], times scale the sum of S . dS
  const float* decay;  // [chunks, H, decays_each]: e^bC
  int groups, dots_each, decays_each;
  OutRows to;  // [N, H]
};
void gradient_of_head_gates(const Chunked& chunked, const HeadGateGradient& gradient, Stream stream);

// to [N, heads] = sums of parts [N, heads, count].
template <class T>
void sum_head_gate_parts(const float* parts, int64_t tokens, int64_t heads, int64_t count, T* to,
                         int64_t stride, Stream stream);

}  // namespace sluice::kernels::gla
