// Heads that decay as a whole, on sm_90a. With b a chunk's running sum of the head's gates and bC its last,
//   o_i  = scale (e^b_i q_i S + sum_j P_ij v_j),          S_next = e^bC S + sum_j e^(bC - b_j) k_j^T v_j
//   dv_j = scale (e^(bC - b_j) k_j dS + sum_i P_ij dO_i),  dS_before = e^bC dS + sum_i e^b_i q_i^T dO_i
// where dS leaves scale out. All factors belong to rows, so dq and dk are walks of the same form with other
// rows in the places: dq is o of (dO, v, k) for (q, k, v), dk is dv of (v, dO, q) for (k, q, dO).
#pragma once

#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"

namespace sluice::kernels::gla {

// What a walk's rows are multiplied by, of one chunk and head: 64 factors of what it emits, 4 times e^bC, 64
// factors of the update. An emitted token's scores come without its factor, which it gets when it is stored.
inline constexpr int HEAD_FACTORS = 132, EMIT_FACTORS = 0, HEAD_DECAY = 64, UPDATE_FACTORS = 68;

struct HeadScores {
  Rows queries, keys;  // [N, H, size]
  int size;
  bfloat16* of_queries;    // [chunks, H, 2, 64, 64] for o and dq: without e^b_i; null: not wanted
  bfloat16* of_keys;       // for dv and dk: without e^(bC - b_j)
  float* forward_factors;  // [chunks, H, HEAD_FACTORS], null: not wanted
  float* reverse_factors;
  // For the gradient of the gates, where `others` is not null: the other rows' of_keys, and
  const bfloat16* others;
  float* diagonal;  // [chunks, H, 64]: scale <dO, v> of each token, for which the scores then have zeros
  float* near;  // [chunks, H]: over pairs i > j of the chunk, scale (q_i . k_j) (dO_i . v_j) e^(b_i - b_j)
};
void scores_of_heads(const Chunked& chunked, const HeadScores& scores, Stream stream);

// What the gradient of the gates wants of the walks of dq and dk.
struct HeadGateWalk {
  Rows own, other;        // q and k, or k and q: what comes out is a gradient of the first
  const float* diagonal;  // [chunks, H, 64], which the scores lack
  float* totals;          // [chunks, H, 64, key groups]: own . gradient without the diagonal, 16 keys each
  void* states;           // S before each chunk as factors of products, written by dq's walk, read by dk's
  float* dots;            // [chunks, H, parts, tiles, 8]: parts of the sum of S . dS / scale, by dk's
};

struct HeadWalk {
  Rows values;        // W: rows of X lie along it
  Rows hat, emit;     // of the update, and of what is emitted: columns of X lie along them
  int rows, columns;  // of X
  bool of_keys;       // whether rows of X are keys
  bool reverse;
  const bfloat16* scores;
  const float* factors;
  float factor;  // of what is emitted
  OutRows to;    // null data: not wanted
  Slots start, end;
  float start_factor, end_factor;
  int64_t segment_chunks, slots;
  float* segment_states;  // [slots, H, parts, tiles, fragments]
  float* segment_decays;  // [slots, H]
  HeadGateWalk head_gate;
};

inline constexpr int HEADS_LARGEST_COLUMNS = 512;
// Blocks that share a state's columns: two, of 256 each, add what they emit.
inline int column_parts(int64_t columns) { return columns > 256 ? 2 : 1; }
inline int padded_columns(int64_t columns) {
  return columns <= 64 ? 64 : columns <= 128 ? 128 : columns <= 256 ? 256 : 512;
}
// Columns of the states of dq's and dk's walks.
inline int padded_values(int64_t value_size) { return value_size <= 64 ? 128 : padded_columns(value_size); }

struct HeadSegmentation {
  int64_t chunks = 0, slots = 0;
  int64_t value_states = 0;     // floats of o's or dv's walk; none where there is one segment a sequence
  int64_t gradient_states = 0;  // of dq's, and as many of dk's
  int64_t decays = 0;           // of each walk
};
HeadSegmentation head_segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                                      int64_t value_size, bool backward, bool gated);
struct HeadGateElements {
  int64_t totals, states, dots;
};
HeadGateElements head_gate_elements(int64_t chunks, int64_t heads, int64_t key_size, int64_t value_size);

// o's walk.
void walk_heads(const Chunked& chunked, const HeadWalk& output, Stream stream);
struct HeadWalks {
  HeadWalk queries, keys, values;        // dq's, dk's and dv's
  bool gradients_wanted, values_wanted;  // dq's and dk's, dv's
  bool gated;                            // with head_gate
};
void walk_heads_backward(const Chunked& chunked, const HeadWalks& walks, Stream stream);

// The gradient of the gates from what the walks leave. A pair (i, j) of a query and a key before it adds to
// dg of the tokens after j up to i. With q . dq and k . dk over all pairs but a token with itself,
//   dg_t = sum_{s >= t} (q . dq)_s + sum_{s < t} (k . dk)_s - near + e^bC sum(S_start . dS_end),
// sums over the chunk: they count pairs inside the chunk that cross t twice, others inside once, and `near`
// takes each off once.
struct HeadGateGradient {
  const float* q_totals;  // [chunks, H, 64, groups]
  const float* k_totals;
  const float* near;     // [chunks, H]
  const float* dots;     // [chunks, H, dots_each], times scale the sum of S . dS
  const float* factors;  // [chunks, H, HEAD_FACTORS]
  int groups, dots_each;
  OutRows to;  // [N, H]
};
void gradient_of_head_gates(const Chunked& chunked, const HeadGateGradient& gradient, Stream stream);

// to [N, heads] = sums of parts [N, heads, count].
template <class T>
void sum_head_gate_parts(const float* parts, int64_t tokens, int64_t heads, int64_t count, T* to,
                         int64_t stride, Stream stream);

}  // namespace sluice::kernels::gla
