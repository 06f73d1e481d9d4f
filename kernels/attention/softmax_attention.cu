// Which of the ways to compute attention serves a call.
#include "kernels/attention/softmax_attention.h"

#include <algorithm>
#include <type_traits>

#include "core/cuda_check.h"
#include "core/error.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/attention_paths.h"
#include "kernels/attention/attention_splits.cuh"
#include "kernels/common/device_types.cuh"

namespace sluice::kernels::cuda {
namespace {

void check(const AttentionShape& s) {
  constexpr int64_t kMostColumns = 256, kMostRows = int64_t{1} << 30;
  SLUICE_CHECK(s.head_dim > 0 && s.head_dim <= kMostColumns, kUsage,
               "softmax_attention: head_dim is {}, CUDA supports 1 to {}", s.head_dim, kMostColumns);
  SLUICE_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, kUsage,
               "softmax_attention: heads ({}) must be a multiple of kv_heads ({})", s.heads, s.kv_heads);
  SLUICE_CHECK(
      s.longest_q <= s.longest_k && s.longest_k <= kMostRows, kUsage,
      "softmax_attention: {} queries and {} keys of one sequence, CUDA supports up to {} keys and as many "
      "queries as keys",
      s.longest_q, s.longest_k, kMostRows);
  SLUICE_CHECK(s.scale > 0, kUsage, "softmax_attention: scale is {}, CUDA supports scales above zero",
               s.scale);
}

// Tensor cores read rows 16 bytes at a time. A null pointer is none to read or write.
bool packs(const bfloat16* pointer, int64_t stride, int64_t head_dim) {
  return pointer == nullptr || can_pack<8>(pointer, stride, head_dim);
}

template <class T>
bool runs_on_tensor_cores(const SoftmaxAttentionForward<T>& p) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const int64_t d = p.shape.head_dim;
    return packs(p.q, p.q_stride, d) && packs(p.k, p.k_stride, d) && packs(p.v, p.v_stride, d) &&
           packs(p.o, p.o_stride, d);
  }
  return false;
}

template <class T>
bool runs_on_tensor_cores(const SoftmaxAttentionBackward<T>& p) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    constexpr int64_t kMostColumns =
        128;  // beyond, the gradients of one warp's keys do not fit its registers
    const int64_t d = p.shape.head_dim;
    return d <= kMostColumns && packs(p.q, p.q_stride, d) && packs(p.k, p.k_stride, d) &&
           packs(p.v, p.v_stride, d) && packs(p.o, p.o_stride, d) && packs(p.d_o, p.d_o_stride, d) &&
           packs(p.dq, p.dq_stride, d) && packs(p.dk, p.dk_stride, d) && packs(p.dv, p.dv_stride, d);
  }
  return false;
}

// The kernels of sm_90a are for the sizes of heads that models have.
template <class Params>
bool runs_on_hopper(const Params& p) {
  const int64_t d = p.shape.head_dim;
  return (d == 64 || d == 128) && p.shape.longest_q > 0 && cuda::has_hopper_attention() &&
         runs_on_tensor_cores(p);
}

// Whether a query's keys are better shared out among blocks than its neighbours.
bool decodes(const AttentionShape& s) {
  constexpr int64_t kFewRows = 64;
  return s.longest_q * (s.heads / s.kv_heads) <= kFewRows && s.longest_k >= 4 * s.longest_q;
}

}  // namespace

template <class T>
int64_t softmax_attention_forward_workspace(const SoftmaxAttentionForward<T>& p) {
  if (p.shape.longest_q == 0) return 0;
  check(p.shape);
  if (!runs_on_tensor_cores(p)) return splits_in_float(p.shape).bytes(p.shape);
  if (decodes(p.shape)) return splits_on_tensor_cores(p.shape).bytes(p.shape);
  return runs_on_hopper(p) ? HOPPER_WORKSPACE : 0;
}

template <class T>
void softmax_attention_forward(const SoftmaxAttentionForward<T>& p) {
  if (p.shape.longest_q == 0) return;
  check(p.shape);
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (runs_on_tensor_cores(p)) {
      if (decodes(p.shape)) {
        decode_on_tensor_cores(p);
      } else {
        runs_on_hopper(p) ? attend_on_hopper(p) : attend_on_tensor_cores(p);
      }
      return;
    }
  }
  attend_in_float(p);
}

// Passes of their own for dq and for dk and dv keep every sum in registers; one pass for all needs sums in
// float.
template <class T>
int64_t softmax_attention_backward_workspace(const SoftmaxAttentionBackward<T>& p) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (runs_on_hopper(p)) return std::max(HOPPER_WORKSPACE, gradients_workspace_on_hopper(p));
  }
  return 0;
}

template <class T>
void softmax_attention_backward(const SoftmaxAttentionBackward<T>& p) {
  if (p.shape.longest_k == 0) return;
  check(p.shape);
  const bool has_queries = p.shape.longest_q > 0;
  const bool wants_queries = has_queries && p.dq != nullptr, wants_keys = p.dk != nullptr || p.dv != nullptr;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (runs_on_hopper(p)) {
      attention_delta(p);
      if (gradients_workspace_on_hopper(p) > 0) {
        gradients_on_hopper(p);
        return;
      }
      SLUICE_CUDA_CHECK(cudaMemsetAsync(p.workspace, 0, HOPPER_WORKSPACE, p.stream));
      if (wants_queries) query_gradient_on_hopper(p);
      if (wants_keys) key_gradients_on_hopper(p);
      return;
    }
    if (runs_on_tensor_cores(p)) {
      if (wants_queries) {
        query_gradient_on_tensor_cores(p);
      } else if (has_queries) {
        attention_delta(p);
      }
      if (wants_keys) key_gradients_on_tensor_cores(p);
      return;
    }
  }
  if (has_queries) attention_delta(p);
  if (wants_queries) query_gradient_in_float(p);
  if (wants_keys) key_gradients_in_float(p);
}

template int64_t softmax_attention_forward_workspace(const SoftmaxAttentionForward<float>&);
template int64_t softmax_attention_forward_workspace(const SoftmaxAttentionForward<bfloat16>&);
template void softmax_attention_forward(const SoftmaxAttentionForward<float>&);
template void softmax_attention_forward(const SoftmaxAttentionForward<bfloat16>&);
template int64_t softmax_attention_backward_workspace(const SoftmaxAttentionBackward<float>&);
template int64_t softmax_attention_backward_workspace(const SoftmaxAttentionBackward<bfloat16>&);
template void softmax_attention_backward(const SoftmaxAttentionBackward<float>&);
template void softmax_attention_backward(const SoftmaxAttentionBackward<bfloat16>&);

}  // namespace sluice::kernels::cuda
