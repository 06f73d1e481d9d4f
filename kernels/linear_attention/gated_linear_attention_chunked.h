// The chunked form on tensor cores, bfloat16: what its kernels share, and their launchers in order of use.
//
// Inside a chunk b is the running sum of g, bC its last row. q' = power * q, where power is the power of two
// in scale; the rest of it, factor in [1, 2), multiplies float sums, so a scale costs no rounding.
//   q_hat = q' e^b, k_hat = k e^(bC - b)                    rounded to bfloat16
//   P = tril(q' e^(b_i - b_j) k), dP = tril(dO V^T)         by factors of 11 bits or more, see README.md
//   S_next = e^bC S + k_hat^T V,  dS_before = e^bC dS + q_hat^T dO
//   O = factor (q_hat S + P V),   dV = factor (k_hat dS + P^T dO)
// dS, like P, leaves factor out.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "kernels/common/stream.h"

namespace sluice::kernels::gla {

inline constexpr int CHUNK = 64;
// Rows of a chunk in q_hat and k_hat: after the 64 come the rounding errors of the LOW rows that decay least
// on their way to the state (first rows of q_hat, last rows of k_hat).
inline constexpr int LOW = 16;
inline constexpr int HAT_ROWS = CHUNK + LOW;

// Where a chunk's tokens lie.
struct ChunkSpan {
  int64_t first, rows;
};

struct Rows {
  const bfloat16* data;  // [N, heads, columns], null: zeros
  int64_t stride;
};
struct OutRows {
  bfloat16* data;  // null: not wanted
  int64_t stride;
};

// Log decays of whole heads.
struct HeadGates {
  const bfloat16* data;  // [N, Hkv], or null
  int64_t stride;
  const float* constant;  // [Hkv], one for all tokens; null, as data: none
};

// How the fused walk leaves states in memory: as the tensor cores take them. A piece of 512 bytes is 16 keys
// of 16 values, 16 bytes a lane = 4 * group + pair: of key `group` values 2 * pair, + 1, + 8, + 9, then the
// same of key `group` + 8. Pieces are [chunks, Hkv, panels of 64 keys, steps of 16 values, 4].
struct StateFragments {
  int64_t panels, steps;  // of a state
};
inline StateFragments state_fragments(int64_t key_size, int64_t value_size) {
  return {(key_size + 63) / 64, (value_size + 63) / 64 * 4};
}
inline int64_t elements_of(const StateFragments& fragments) {
  return fragments.panels * 64 * fragments.steps * 16;
}

struct Chunked {
  int64_t chunks, sequences;
  int heads, kv_heads, group, key_size, value_size;
  float scale, power, factor;    // scale = power * factor
  const int64_t* offsets;        // [S + 1]
  const int64_t* chunk_offsets;  // [S + 1]
  Rows q, k, v, g, d_o;
  // Workspace.
  ChunkSpan* spans;    // [chunks]
  float* decay;        // [chunks, Hkv, K]: e^bC
  bfloat16* q_hat;     // [chunks, H, HAT_ROWS, K]
  bfloat16* k_hat;     // [chunks, Hkv, HAT_ROWS, K]
  bfloat16* scores;    // [chunks, H, 2, 64, 64]: P rounded, and what the rounding took off
  float* d_scores;     // [chunks, H, 64, 64]: dP; for groups of several query heads, others keep it on chip
  bfloat16* states;    // [chunks, Hkv, K, V]: S before each chunk
  bfloat16* d_states;  // [chunks, Hkv, K, V]: dS after each chunk
  // For the fused walk, where panels are not 0 (one query head a kv head). Then q_hat and k_hat are [chunks,
  // H, panels, HAT_ROWS, 64], their rows and those of scores as shared memory takes them: 16-byte pieces
  // permuted by piece ^ (row & 7); decay is [chunks, Hkv, 64 panels]; states are StateFragments.
  int panels;
  bool flipped;  // rows of q_hat and scores in blocks of 16, last first; without rounding errors of q_hat
  StateFragments fragments;
  // Where heads decay as a whole.
  bool by_heads;
  HeadGates head_gates;
  float*
      head_gate_parts;  // [N, Hkv, tiles of 64 keys], chunked: dg summed over a tile's keys; null: not wanted
};

struct Slots {
  const int64_t* of_sequence;  // [S], -1: none
  const float* read;           // [slots, Hkv, K, V], null: zeros
  float* written;              // [slots, Hkv, K, V], null: not wanted
};

// spans, decay, q_hat, k_hat and scores.
void prepare_chunks(const Chunked& chunked, Stream stream);
// d_scores, which gradients of groups need.
void d_scores_of_chunks(const Chunked& chunked, Stream stream);
// Forward: the states before the chunks, from `start` to `end`. In reverse: their gradients after the chunks.
struct StateWalk {
  bool reverse;
  Slots start, end;
};
// One walk, or two at a time: neither fills a GPU where sequences are few and long.
void walk_states(const Chunked& chunked, const StateWalk* walks, int count, Stream stream);
// o from states and scores, or dv from d_states and the scores' transpose.
void output_of_chunks(const Chunked& chunked, OutRows o, Stream stream);
void d_values_of_chunks(const Chunked& chunked, OutRows dv, Stream stream);
void gradients_of_chunks(const Chunked& chunked, OutRows dq, OutRows dk, OutRows dg, Stream stream);

// Zeroes the slots of states [slots, elements] that none of `named` [count] names.
void zero_unnamed_slots(float* states, int64_t slots, int64_t elements, const int64_t* named, int64_t count,
                        Stream stream);

}  // namespace sluice::kernels::gla
