// Heads that decay as a whole, on sm_90a. With b a chunk's running sum of the head's gates and bC its last,
//   o_i  = scale (e^b_i q_i S + sum_j P_ij v_j),          S_next = e^bC S + sum_j e^(bC - b_j) k_j^T v_j
//   dv_j = scale (e^(bC - b_j) k_j dS + sum_i P_ij dO_i),  dS_before = e^bC dS + sum_i e^b_i q_i^T dO_i
// where P_ij = e^(b_i - b_j) q_i . k_j for j <= i, and dS leaves scale out. All factors belong to rows, so dq
// and dk are walks of the same form with other rows in the places: dq is o of (dO, v, k) for (q, k, v), dk is
// dv of (v, dO, q) for (k, q, dO).
#pragma once

#include "kernels/common/tensor_map.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"

namespace sluice::kernels::gla {

// Rows, and how bulk copies of a chunk of one head find them.
struct MappedHeads {
  Rows rows;
  CUtensorMap map;  // where there are tokens
};

struct HeadWalk {
  MappedHeads values;     // W: rows of X lie along it
  MappedHeads hat, emit;  // of the update, and of what is emitted: columns of X lie along them
  int rows, columns;      // of X
  bool of_keys;           // whether rows of X are keys
  bool reverse;
  float factor;  // of what is emitted
  OutRows to;    // null data: not wanted
  Slots start, end;
  float start_factor, end_factor;
  int64_t segment_chunks, slots;
  bool leads;             // blocks walk what lies before their segments themselves: no states of segments
  float* segment_states;  // [slots, H, parts, tiles, fragments]
  float* segment_decays;  // [slots, H]
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
  bool leads = false;           // a sequence has slots / sequences of them, see HeadWalk
  int64_t value_states = 0;     // floats of o's or dv's walk; none where there is one segment a sequence
  int64_t gradient_states = 0;  // of dq's, and as many of dk's
  int64_t decays = 0;           // of each walk
};
// longest: chunks of the longest sequence, 0: not known.
HeadSegmentation head_segmentation_of(int64_t chunks, int64_t sequences, int64_t longest, int64_t heads,
                                      int64_t key_size, int64_t value_size, bool backward);

// o's walk.
void walk_heads(const Chunked& chunked, const HeadWalk& output, Stream stream);
struct HeadWalks {
  HeadWalk queries, keys, values;        // dq's, dk's and dv's
  bool gradients_wanted, values_wanted;  // dq's and dk's, dv's
};
void walk_heads_backward(const Chunked& chunked, const HeadWalks& walks, Stream stream);

// to [N, heads] = sums of parts [N, heads, count].
template <class T>
void sum_head_gate_parts(const float* parts, int64_t tokens, int64_t heads, int64_t count, T* to,
                         int64_t stride, Stream stream);

}  // namespace sluice::kernels::gla
