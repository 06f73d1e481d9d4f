// How a call of gated linear attention runs on a GPU, and where its scratch memory goes.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/linear_attention/gated_linear_attention.h"

namespace sluice::kernels {

struct GatedLinearAttentionPlan {
  enum class Path {
    kChunked,    // tensor cores, chunks of 64 tokens in parallel
    kRecurrent,  // float, token by token
    kStep,       // forward, at most one token a sequence
  };
  Path path = Path::kRecurrent;
  // First bytes of the parts of the workspace, and the whole of it. Unused parts are empty.
  int64_t spans = 0, decay = 0, q_hat = 0, k_hat = 0, scores = 0, states = 0, d_scores = 0,
          d_states = 0;                // chunked
  int64_t dq = 0, dk = 0, across = 0;  // recurrent; also states, in float
  int64_t bytes = 0;

  std::string to_string() const;
};

template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionForward<T>& params);
template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionBackward<T>& params);

}  // namespace sluice::kernels
