// Gated linear attention over packed sequences (formula in
// kernels/linear_attention/gated_linear_attention.h).
#pragma once

#include <optional>

#include "autograd/variable.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

struct GatedLinearAttentionOptions {
  int64_t heads = 1;            // H: query heads
  int64_t kv_heads = 1;         // Hkv: divides H; query head h reads kv head h / (H / Hkv)
  std::optional<double> scale;  // of the queries; K^-1/2 when absent
  bool want_final_state = false;
};

struct GatedLinearAttentionResult {
  Variable output;       // [N, H * V], dense
  Variable final_state;  // [slots, Hkv, K, V], zero where no sequence ends; undefined unless wanted
};

// How the state of a head decays. One of the three at most; none: it does not.
struct StateDecay {
  Variable channels;  // [N, Hkv * K]: log decays of each token and channel
  Variable heads;     // [N, Hkv]: of each token, all channels of a head alike
  Tensor constant;    // [Hkv], of accumulate_dtype(): of a head at all tokens, without gradient
};

// q [N, H * K], k [N, Hkv * K], v [N, Hkv * V], log decays at most 0;
// each may be a slice of columns. initial_state [slots, Hkv, K, V] or undefined (zero); the layout says which
// sequence starts from which slot. One token a sequence is a decoding step.
//
// Where the layout says that rows are parts of longer ones, initial_state must be undefined and no final
// state wanted: the rows then start from the state at the end of the part before. Each part walks its own
// tokens from zero first, and a second time from the state that the parts before add up to; backward
// likewise.
//
// Gradients flow to all five inputs, from both results. When recording, the state at the start of every 64
// tokens is kept for backward.
GatedLinearAttentionResult gated_linear_attention(const Variable& q, const Variable& k, const Variable& v,
                                                  const StateDecay& decay, const Variable& initial_state,
                                                  const SequenceLayout& layout,
                                                  const GatedLinearAttentionOptions& options);
// With decays of channels, or none.
GatedLinearAttentionResult gated_linear_attention(const Variable& q, const Variable& k, const Variable& v,
                                                  const Variable& g, const Variable& initial_state,
                                                  const SequenceLayout& layout,
                                                  const GatedLinearAttentionOptions& options);

}  // namespace sluice::ops
