// How a call of gated linear attention runs on a GPU, and where its scratch memory goes.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/linear_attention/gated_linear_attention.h"

namespace sluice::kernels {

struct GatedLinearAttentionPlan {
  enum class Path {
    kFused,      // sm_90a: chunks of 64 tokens, one walk along a sequence carries the state and emits outputs
    kChunked,    // tensor cores, chunks of 64 tokens in parallel, states between them in memory
    kRecurrent,  // float, token by token
    kStep,       // forward, at most one token a sequence
  };
  Path path = Path::kRecurrent;
  bool by_heads = false;  // fused, where heads decay as a whole and their gates want no gradient
  // First bytes of the parts of the workspace, and the whole of it. Unused parts are empty.
  int64_t spans = 0, decay = 0, q_hat = 0, k_hat = 0, scores = 0, states = 0, d_scores = 0,
          d_states = 0;                            // fused and chunked; fused forward has no states
  int64_t segment_states = 0, segment_decays = 0;  // fused
  int64_t segment_chunks = 0, segment_slots = 0;
  bool segments_lead = false;          // by heads: blocks walk what lies before their segments themselves
  int64_t dq = 0, dk = 0, across = 0;  // recurrent; also states, in float
  int64_t head_gate_parts = 0;         // where heads decay as a whole and their gates want gradients
  // Fused: what backward's walks for dq and dk leave of segments, beside segment_states and segment_decays;
  // one walk for both, by channels.
  int64_t query_states = 0, query_decays = 0, key_states = 0, key_decays = 0;
  int64_t bytes = 0;

  std::string to_string() const;
};

// Whether calls may take the fused path (they may). Without it they run on any GPU's instructions: for tests
// that compare the two. Not to be changed while calls are made, nor between asking for a workspace and its
// call.
void allow_fused_gated_linear_attention(bool allowed);

template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionForward<T>& params);
template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionBackward<T>& params);

}  // namespace sluice::kernels
