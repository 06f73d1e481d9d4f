// The walk along a sequence on sm_90a: the state stays in registers, and what a chunk's outputs need of it
// goes straight into them, so that forward stores no states. K up to 256, one query head a kv head.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_chunked.h"

namespace sluice::kernels::gla {

inline constexpr int FUSED_WALK_LARGEST_KEYS = 256;
inline constexpr int FUSED_WALK_VALUES = 128;  // of V a block

// Panels of 64 keys it works on.
inline int fused_panels(int64_t key_size) { return key_size <= 64 ? 1 : key_size <= 128 ? 2 : 4; }

struct FusedWalk {
  Rows values;               // W: v, or dO in reverse
  const bfloat16* hat;       // of the update: k_hat, or q_hat in reverse
  const bfloat16* emit_hat;  // the other one
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
// One walk: forward emits o, and without `to` stores the states; in reverse, dv and states. Then the second,
// if there is one: of the same segments, whose states it leaves elsewhere.
void walk_fused(const Chunked& chunked, const FusedWalk& walk, const FusedWalk* second, Stream stream);

}  // namespace sluice::kernels::gla
