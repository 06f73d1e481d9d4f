// Causal softmax attention over packed sequences, without a T x T matrix (Dao et al. 2022, algorithms 1 and
// 4). Sequence s has queries q_offsets[s] .. q_offsets[s + 1] and keys k_offsets[s] .. k_offsets[s + 1], at
// least as many: with Lq queries and Lk keys, query i stands at position p = Lk - Lq + i and sees the keys at
// positions max(0, p - window + 1) .. p (window 0: all up to p). Query head h uses key and value head h /
// (heads / kv_heads).
//   P_pj = softmax_j(scale q_p . k_j);   o_p = sum_j P_pj v_j;   lse_p = log sum_j exp(scale q_p . k_j).
// On the CPU everything accumulates in T; on CUDA scores, sums and statistics are float, and bfloat16 rounds
// probabilities and dS before they are multiplied on tensor cores. Orders of summation depend on shapes
// alone.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

struct AttentionShape {
  int64_t sequences = 0;
  const int64_t* q_offsets = nullptr;    // [sequences + 1]
  const int64_t* k_offsets = nullptr;    // [sequences + 1]
  int64_t longest_q = 0, longest_k = 0;  // most queries and keys of one sequence (CUDA: sizes of the grid)
  int64_t heads = 0, kv_heads = 0;       // kv_heads divides heads
  int64_t head_dim = 0;
  int64_t window = 0;
  double scale = 1;
};

// N queries and M keys in all; D = head_dim. Head h is at columns h * D.
template <class T>
struct SoftmaxAttentionForward {
  AttentionShape shape;
  const T* q = nullptr;  // [N, heads * D], row stride q_stride
  int64_t q_stride = 0;
  const T* k = nullptr;  // [M, kv_heads * D], row stride k_stride
  int64_t k_stride = 0;
  const T* v = nullptr;  // [M, kv_heads * D], row stride v_stride
  int64_t v_stride = 0;
  T* o = nullptr;  // [N, heads * D], row stride o_stride
  int64_t o_stride = 0;
  accumulate_t<T>* lse = nullptr;  // [N, heads] dense, or null when no backward follows
  void* workspace = nullptr;       // CUDA: softmax_attention_forward_workspace(params) bytes
  Stream stream = nullptr;
};

// With delta_p = do_p . o_p and dS_pj = P_pj (do_p . v_j - delta_p) scale:
//   dq_p = sum_j dS_pj k_j;   dk_j = sum_p dS_pj q_p;   dv_j = sum_p P_pj do_p.
// dq and the pair dk, dv are computed by passes of their own, on CUDA where it pays by one pass that takes a
// workspace of dq in float; null pointers skip them. A gradient whose accumulate flag is set is added to.
template <class T>
struct SoftmaxAttentionBackward {
  AttentionShape shape;
  const T* q = nullptr;  // as in forward
  int64_t q_stride = 0;
  const T* k = nullptr;
  int64_t k_stride = 0;
  const T* v = nullptr;
  int64_t v_stride = 0;
  const T* o = nullptr;
  int64_t o_stride = 0;
  const accumulate_t<T>* lse = nullptr;  // [N, heads]
  const T* d_o = nullptr;                // [N, heads * D], row stride d_o_stride
  int64_t d_o_stride = 0;
  accumulate_t<T>* delta = nullptr;  // [N, heads] workspace
  T* dq = nullptr;                   // [N, heads * D], row stride dq_stride, or null
  int64_t dq_stride = 0;
  bool accumulate_dq = false;
  T* dk = nullptr;  // [M, kv_heads * D], row stride dk_stride, or null
  int64_t dk_stride = 0;
  bool accumulate_dk = false;
  T* dv = nullptr;  // [M, kv_heads * D], row stride dv_stride, or null
  int64_t dv_stride = 0;
  bool accumulate_dv = false;
  void* workspace = nullptr;  // CUDA: softmax_attention_backward_workspace(params) bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void softmax_attention_forward(const SoftmaxAttentionForward<T>& params);
template <class T>
void softmax_attention_backward(const SoftmaxAttentionBackward<T>& params);
}  // namespace cpu

// Any head_dim up to 256, any strides and alignment, and scale > 0. bfloat16 rows on 16-byte boundaries with
// head_dim a multiple of 8 run on tensor cores (backward: up to 128), everything else in exact float
// products.
namespace cuda {
template <class T>
int64_t softmax_attention_forward_workspace(const SoftmaxAttentionForward<T>& params);
template <class T>
void softmax_attention_forward(const SoftmaxAttentionForward<T>& params);
template <class T>
int64_t softmax_attention_backward_workspace(const SoftmaxAttentionBackward<T>& params);
template <class T>
void softmax_attention_backward(const SoftmaxAttentionBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
