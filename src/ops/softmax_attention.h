// Causal softmax attention over packed sequences (formula in kernels/attention/softmax_attention.h).
#pragma once

#include "autograd/variable.h"
#include "ops/index_array.h"

namespace sluice::ops {

struct SoftmaxAttentionOptions {
  int64_t heads = 1;
  int64_t kv_heads = 1;  // divides heads; query head h reads key and value head h / (heads / kv_heads)
  int64_t window = 0;    // a query sees so many keys, its own position's included; 0: all before it
  double scale = 1.0;
  // [S + 1] each, from 0 to the number of queries and of keys. A sequence may have more keys than queries:
  // its queries are then the last ones, after keys seen before.
  IndexArray q_offsets;
  IndexArray k_offsets;
};

// q [N, heads * D], k and v [M, kv_heads * D] -> o [N, heads * D].
Variable softmax_attention(const Variable& q, const Variable& k, const Variable& v,
                           const SoftmaxAttentionOptions& options);

}  // namespace sluice::ops
