// Gated linear attention over packed sequences (Yang et al. 2023, arXiv 2312.06635, section 4). Row vectors
// q, k, g of K and v of V elements a head, state S of K x V:
//   S_t = Diag(e^{g_t}) S_{t-1} + k_t^T v_t,   o_t = scale * q_t S_t.
// The decay is applied before the update: k_t^T v_t is not decayed at t.
//
// Grouped heads: query head h reads kv head h / (H / Hkv). The state depends on k, v and g alone, so there is
// one a kv head, shared by the H / Hkv query heads that read it.
//
// The decays come in one of four kinds: one a token and channel (g), one a token and head (head_g), one a
// head for all tokens (constant_g), or none. Of the three pointers at most one is given. Where heads decay as
// a whole, the gradient of head_g is the sum over K of what g's would be.
//
// CPU: the plain recurrence, in T throughout; the reference of every other implementation. Sums run over K,
// V and the query heads of a group in an order fixed by the sizes, whatever the number of threads.
//
// CUDA (README.md here has the design): bfloat16 rows on 16-byte boundaries with K and V multiples of 8 go by
// chunks of 64 tokens on tensor cores. Products are of bfloat16 factors, those inside a chunk of factors with
// at least 11 bits; all sums, gate sums and the carried state are float; states between chunks are kept as
// bfloat16. Float, and rows that do not lie so, run the recurrence in float. Decays below e^-110 count as
// zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

// Head h of a token's row lies at columns [h * K, (h + 1) * K), or V. A row stride is in elements.
template <class T>
struct GatedLinearAttentionForward {
  int64_t tokens = 0, sequences = 0;  // N, S
  // Tokens of the longest sequence, or 0: not known. 1 allows a decode step; where heads decay as a whole, it
  // decides how sequences are cut.
  int64_t longest = 0;
  int64_t heads = 0, kv_heads = 0;       // H, Hkv; Hkv divides H
  int64_t key_size = 0, value_size = 0;  // K, V
  double scale = 1;
  const T* q = nullptr;  // [N, H, K]
  int64_t q_stride = 0;
  const T* k = nullptr;  // [N, Hkv, K]
  int64_t k_stride = 0;
  const T* v = nullptr;  // [N, Hkv, V]
  int64_t v_stride = 0;
  const T* g = nullptr;  // [N, Hkv, K] log decays, or null
  int64_t g_stride = 0;
  const T* head_g = nullptr;  // [N, Hkv] log decays of whole heads, or null
  int64_t head_g_stride = 0;
  const accumulate_t<T>* constant_g = nullptr;  // [Hkv] log decays of all tokens, or null
  T* o = nullptr;                               // [N, H, V]
  int64_t o_stride = 0;
  const int64_t* offsets = nullptr;    // [S + 1]: sequence s is tokens [offsets[s], offsets[s + 1])
  const int64_t* state_in = nullptr;   // [S]: slot of the initial state, -1: zero
  const int64_t* state_out = nullptr;  // [S]: slot the final state goes to, -1: nowhere; each at most once
  int64_t slots = 0;
  const accumulate_t<T>* initial_state = nullptr;  // [slots, Hkv, K, V], or null: all zero
  accumulate_t<T>* final_state =
      nullptr;  // [slots, Hkv, K, V], or null; slots that no sequence leaves become zero. May be
                // initial_state, on a GPU for steps, if state_in equals state_out: others then stay
  // The state before every `chunk` tokens of each sequence, for backward, or null:
  // chunk c of sequence s is row chunk_offsets[s] + c.
  // CUDA: chunk is 64, chunk_offsets are always given and chunk_states never: backward computes them again.
  int64_t chunk = 64;
  int64_t chunks = 0;                       // chunk_offsets[S]
  const int64_t* chunk_offsets = nullptr;   // [S + 1], see chunk_offsets()
  accumulate_t<T>* chunk_states = nullptr;  // [chunk_offsets[S], Hkv, K, V]
  void* workspace = nullptr;                // CUDA: see cuda::gated_linear_attention_*_workspace
  Stream stream = nullptr;
};

// With dS_t the gradient of S_t, from the end of a sequence (dS_T starts from d_final_state):
//   dS_t = Diag(e^{g_{t+1}}) dS_{t+1} + scale * q_t^T do_t        (summed over a group's query heads)
//   dq_t = scale * S_t do_t     dk_t = dS_t v_t     dv_t = k_t dS_t
//   dg_t = e^{g_t} . rowsum_V(dS_t . S_{t-1})       dS_0 = Diag(e^{g_1}) dS_1.
// Outputs are overwritten; null ones are not wanted.
template <class T>
struct GatedLinearAttentionBackward {
  int64_t tokens = 0, sequences = 0;
  int64_t heads = 0, kv_heads = 0;
  int64_t key_size = 0, value_size = 0;
  double scale = 1;
  const T* q = nullptr;  // [N, H, K]
  int64_t q_stride = 0;
  const T* k = nullptr;  // [N, Hkv, K]
  int64_t k_stride = 0;
  const T* v = nullptr;  // [N, Hkv, V]
  int64_t v_stride = 0;
  const T* g = nullptr;  // [N, Hkv, K], or null
  int64_t g_stride = 0;
  const T* head_g = nullptr;  // [N, Hkv], or null
  int64_t head_g_stride = 0;
  const accumulate_t<T>* constant_g = nullptr;  // [Hkv], or null
  const T* d_o = nullptr;                       // [N, H, V], or null: no gradient through o
  int64_t d_o_stride = 0;
  T* dq = nullptr;  // [N, H, K]
  int64_t dq_stride = 0;
  T* dk = nullptr;  // [N, Hkv, K]
  int64_t dk_stride = 0;
  T* dv = nullptr;  // [N, Hkv, V]
  int64_t dv_stride = 0;
  T* dg = nullptr;  // [N, Hkv, K]; null when g is
  int64_t dg_stride = 0;
  T* d_head_g = nullptr;  // [N, Hkv]; null when head_g is
  int64_t d_head_g_stride = 0;
  const int64_t* offsets = nullptr;    // [S + 1]
  const int64_t* state_in = nullptr;   // [S]; each slot at most once when d_initial_state is wanted
  const int64_t* state_out = nullptr;  // [S]
  int64_t slots = 0;
  // CUDA, which computes the states again: as in forward. The CPU reads chunk_states instead.
  const accumulate_t<T>* initial_state = nullptr;
  const accumulate_t<T>* d_final_state =
      nullptr;  // [slots, Hkv, K, V], or null; slots that no sequence leaves are not read
  accumulate_t<T>* d_initial_state =
      nullptr;         // [slots, Hkv, K, V], or null; slots that no sequence reads become zero
  int64_t chunk = 64;  // as in forward
  int64_t chunks = 0;
  const int64_t* chunk_offsets = nullptr;         // [S + 1]
  const accumulate_t<T>* chunk_states = nullptr;  // [chunk_offsets[S], Hkv, K, V], as forward left it
  void* workspace = nullptr;                      // CUDA: see cuda::gated_linear_attention_*_workspace
  Stream stream = nullptr;
};

// First chunk of each sequence and, last, how many chunks there are: [S + 1].
inline std::vector<int64_t> chunk_offsets(const int64_t* offsets, int64_t sequences, int64_t chunk) {
  std::vector<int64_t> first(static_cast<size_t>(sequences + 1), 0);
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t chunks = (offsets[s + 1] - offsets[s] + chunk - 1) / chunk;
    first[static_cast<size_t>(s + 1)] = first[static_cast<size_t>(s)] + chunks;
  }
  return first;
}

namespace cpu {
template <class T>
void gated_linear_attention_forward(const GatedLinearAttentionForward<T>& params);
template <class T>
void gated_linear_attention_backward(const GatedLinearAttentionBackward<T>& params);
}  // namespace cpu

// chunk is 64. A workspace serves the pass whose params it was asked with: alignment decides how that runs.
namespace cuda {
template <class T>
void gated_linear_attention_forward(const GatedLinearAttentionForward<T>& params);
template <class T>
int64_t gated_linear_attention_forward_workspace(const GatedLinearAttentionForward<T>& params);
template <class T>
void gated_linear_attention_backward(const GatedLinearAttentionBackward<T>& params);
template <class T>
int64_t gated_linear_attention_backward_workspace(const GatedLinearAttentionBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
