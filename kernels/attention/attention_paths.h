// The ways in which CUDA computes softmax attention; softmax_attention.cu chooses.
#pragma once

#include "kernels/attention/softmax_attention.h"

namespace sluice::kernels::cuda {

// Rows on 16-byte boundaries, head_dim a multiple of 8.
void attend_on_tensor_cores(const SoftmaxAttentionForward<bfloat16>& params);  // head_dim up to 256
// Few queries and many keys, which are shared out among blocks.
void decode_on_tensor_cores(const SoftmaxAttentionForward<bfloat16>& params);
// head_dim up to 128. The first also writes delta, which the second needs.
void query_gradient_on_tensor_cores(const SoftmaxAttentionBackward<bfloat16>& params);
void key_gradients_on_tensor_cores(const SoftmaxAttentionBackward<bfloat16>& params);

// Any alignment, head_dim up to 256, float products.
template <class T>
void attend_in_float(const SoftmaxAttentionForward<T>& params);
// Both need delta.
template <class T>
void query_gradient_in_float(const SoftmaxAttentionBackward<T>& params);
template <class T>
void key_gradients_in_float(const SoftmaxAttentionBackward<T>& params);

// delta = rowsum(d_o . o)
template <class T>
void attention_delta(const SoftmaxAttentionBackward<T>& params);

}  // namespace sluice::kernels::cuda
