// The walk along a sequence on sm_90a: the state stays in registers, and what a chunk's outputs need of it
// goes straight into them, so that forward stores no states. K up to 256, one query head a kv head.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_chunked.h"

namespace sluice::kernels::gla {

inline constexpr int FUSED_WALK_LARGEST_KEYS = 256;
inline constexpr int FUSED_WALK_VALUES = 128;  // of V a block

// Panels of 64 keys it works on.
inline int fused_panels(int64_t key_size) { return key_size <= 64 ? 1 : key_size <= 128 ? 2 : 4; }

// What the gradient of whole heads' gates wants of the walks that emit dq and dk.
struct HeadGateWalk {
  Rows own, other;        // q and k, or k and q: what comes out is a gradient of the first
  const float* diagonal;  // [chunks, H, 64]: scale <dO, v> of each token, which the scores lack
  float* totals;          // [chunks, H, 64, key groups]: own . gradient without the diagonal, 16 keys each
  void* states;  // S before each chunk as factors of the walk's products, written for dq, read for dk
  float* dots;   // [chunks, H, parts, tiles, 8]: parts of the sum of S . dS / scale, for dk
};

// Walks whose state has keys as rows. What they emit is of rows as they are, and gets their decay at the end:
// a token's scores come without it.
inline constexpr int ROW_FACTORS = 68;  // floats: e^b (e^(bC - b)) of 64 tokens, but see LARGEST_DECAY; e^bC
struct GradientWalk {
  Rows emit;                 // dO, or v
  const bfloat16* scores;    // [chunks, H, 2, 64, 64]
  const float* row_factors;  // [chunks, H, ROW_FACTORS]
  HeadGateWalk head_gate;
};

struct FusedWalk {
  Rows values;               // W: v, or dO in reverse
  const bfloat16* hat;       // of the update: k_hat, or q_hat in reverse
  const bfloat16* emit_hat;  // the other one
  GradientWalk gradient;     // of walks that emit dq or dk, instead of it and of Chunked's scores and decay
  OutRows to;                // o, or dv; null data: not wanted
  bfloat16* states;          // StateFragments; null: not wanted
  Slots start, end;
  float start_factor, end_factor;
  bool reverse;
  // Segments of the sequences, for few long ones: [slots, Hkv, V tiles, fragments] the state that a segment's
  // own tokens leave, [slots, Hkv, keys] its decay.
  int64_t segment_chunks, slots;
  float* segment_states;
  float* segment_decays;
};

// Chunks of a segment, such that the GPU is filled; all of them where sequences alone do that.
struct Segmentation {
  int64_t chunks = 0, slots = 0;
  int64_t state_elements = 0, decay_elements = 0;  // floats; none where there is one segment a sequence
};
Segmentation segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                             int64_t value_size);

// Whether this build has the kernels and the current device runs them.
bool has_fused_walk();

// Walks whose state has keys as rows, for heads that decay as a whole: then dq is what forward makes of dO, v
// and k in the places of q, k and v, and dk what dv's walk makes of v, dO and q. `chunked` has them so:
// key_size is V, value_size K, one query head a kv head. V up to 512, K up to 256.
inline constexpr int FUSED_GRADIENTS_LARGEST_VALUES = 512;
// Blocks that share a state's values: two, of 256 each, add their sums.
inline int value_parts(int64_t value_size) { return value_size > 256 ? 2 : 1; }
// Panels of 64 values of all of them.
inline int value_panels(int64_t value_size) { return value_size > 256 ? 8 : value_size > 128 ? 4 : 2; }
// Segments of all walks of backward, with room for the states of both of dq and dk together.
struct GradientSegmentation {
  int64_t chunks = 0, slots = 0;
  // Whether dv's walk, too, is in the launch of the others: alone it, or they, would not fill a GPU.
  bool together = false;
  int64_t value_states = 0, value_decays = 0, gradient_states = 0, gradient_decays = 0;  // floats
};
GradientSegmentation gradient_segmentation_of(int64_t chunks, int64_t sequences, int64_t heads,
                                              int64_t key_size, int64_t value_size, bool gated);
struct HeadGateElements {
  int64_t totals, states, dots;
};
HeadGateElements head_gate_elements(int64_t chunks, int64_t heads, int64_t key_size, int64_t value_size);
struct GradientWalks {
  FusedWalk queries, keys;
  FusedWalk values;  // dv's, of the Chunked that is not swapped, where `together`
  bool together;
  bool gated;  // and what head_gate names
};
void walk_fused_gradients(const Chunked& chunked, const Chunked& swapped, const GradientWalks& walks,
                          Stream stream);
// One walk: forward emits o, and without `to` stores the states; in reverse, dv and states.
void walk_fused(const Chunked& chunked, const FusedWalk& walk, Stream stream);

}  // namespace sluice::kernels::gla
