// Entry points on a GPU: which way a call goes, and the order of the kernels.
#include <cmath>
#include <type_traits>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "kernels/linear_attention/gated_linear_attention_chunked.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"
#include "kernels/linear_attention/gated_linear_attention_heads.h"
#include "kernels/linear_attention/gated_linear_attention_plan.h"
#include "kernels/linear_attention/gated_linear_attention_recurrent.h"

namespace sluice::kernels {
namespace {

using Path = GatedLinearAttentionPlan::Path;

template <class Params>
gla::Chunked chunked_of(const Params& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = {};
  chunked.chunks = p.chunks, chunked.sequences = p.sequences;
  chunked.heads = static_cast<int>(p.heads), chunked.kv_heads = static_cast<int>(p.kv_heads);
  chunked.group = static_cast<int>(p.heads / p.kv_heads);
  chunked.key_size = static_cast<int>(p.key_size), chunked.value_size = static_cast<int>(p.value_size);
  int exponent = 0;
  const double fraction = std::frexp(p.scale, &exponent);  // in [1/2, 1)
  chunked.scale = static_cast<float>(p.scale);
  chunked.power = p.scale == 0 ? 0.0f : static_cast<float>(std::ldexp(1.0, exponent - 1));
  chunked.factor = p.scale == 0 ? 1.0f : static_cast<float>(2 * fraction);
  chunked.offsets = p.offsets, chunked.chunk_offsets = p.chunk_offsets;
  chunked.q = {p.q, p.q_stride}, chunked.k = {p.k, p.k_stride};
  chunked.v = {p.v, p.v_stride}, chunked.g = {p.g, p.g_stride};
  chunked.by_heads = p.head_g != nullptr || p.constant_g != nullptr;
  chunked.head_gates = {p.head_g, p.head_g_stride, p.constant_g};
  char* workspace = static_cast<char*>(p.workspace);
  chunked.spans = reinterpret_cast<gla::ChunkSpan*>(workspace + plan.spans);
  chunked.decay = reinterpret_cast<float*>(workspace + plan.decay);
  chunked.q_hat = reinterpret_cast<bfloat16*>(workspace + plan.q_hat);
  chunked.k_hat = reinterpret_cast<bfloat16*>(workspace + plan.k_hat);
  chunked.scores = reinterpret_cast<bfloat16*>(workspace + plan.scores);
  chunked.d_scores = reinterpret_cast<float*>(workspace + plan.d_scores);
  chunked.states = reinterpret_cast<bfloat16*>(workspace + plan.states);
  chunked.d_states = reinterpret_cast<bfloat16*>(workspace + plan.d_states);
  if constexpr (requires { p.d_head_g; }) {
    if (p.d_head_g != nullptr) {
      chunked.head_gate_parts = reinterpret_cast<float*>(workspace + plan.head_gate_parts);
    }
  }
  if (plan.path == Path::kFused) {
    chunked.panels = gla::fused_panels(p.key_size);
    chunked.fragments = gla::state_fragments(p.key_size, p.value_size);
  }
  return chunked;
}

template <class Params>
gla::FusedWalk fused_walk_of(const Params& p, const GatedLinearAttentionPlan& plan) {
  char* workspace = static_cast<char*>(p.workspace);
  gla::FusedWalk walk = {};
  walk.segment_chunks = plan.segment_chunks, walk.slots = plan.segment_slots;
  walk.segment_states = reinterpret_cast<float*>(workspace + plan.segment_states);
  walk.segment_decays = reinterpret_cast<float*>(workspace + plan.segment_decays);
  walk.start_factor = walk.end_factor = 1.0f;
  return walk;
}

// Of whole heads' gates from sums over 64 keys each.
void finish_head_gates(const GatedLinearAttentionBackward<bfloat16>& p, const gla::Chunked& chunked) {
  if (p.d_head_g == nullptr) return;
  gla::sum_head_gate_parts(chunked.head_gate_parts, p.tokens, p.kv_heads, (p.key_size + 63) / 64, p.d_head_g,
                           p.d_head_g_stride, p.stream);
}

void run_fused(const GatedLinearAttentionForward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = chunked_of(p, plan);
  chunked.flipped = true;
  prepare_chunks(chunked, p.stream);
  gla::FusedWalk walk = fused_walk_of(p, plan);
  walk.values = chunked.v, walk.hat = chunked.k_hat, walk.emit_hat = chunked.q_hat;
  walk.to = {p.o, p.o_stride};
  walk.start = {p.state_in, p.initial_state, nullptr}, walk.end = {p.state_out, nullptr, p.final_state};
  walk_fused(chunked, walk, nullptr, p.stream);
}

void run_fused(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = chunked_of(p, plan);
  chunked.d_o = {p.d_o, p.d_o_stride};
  const bool only_values = p.dq == nullptr && p.dk == nullptr && p.dg == nullptr && p.d_head_g == nullptr;
  prepare_chunks(chunked, p.stream);
  gla::FusedWalk reverse = fused_walk_of(p, plan);
  reverse.reverse = true;
  reverse.values = chunked.d_o, reverse.hat = chunked.q_hat, reverse.emit_hat = chunked.k_hat;
  reverse.to = {p.dv, p.dv_stride}, reverse.states = only_values ? nullptr : chunked.d_states;
  reverse.start = {p.state_out, p.d_final_state, nullptr},
  reverse.end = {p.state_in, nullptr, p.d_initial_state};
  reverse.start_factor = 1.0f / chunked.factor, reverse.end_factor = chunked.factor;
  if (only_values) return walk_fused(chunked, reverse, nullptr, p.stream);
  gla::FusedWalk forward = fused_walk_of(p, plan);
  char* workspace = static_cast<char*>(p.workspace);
  forward.segment_states = reinterpret_cast<float*>(workspace + plan.query_states);
  forward.segment_decays = reinterpret_cast<float*>(workspace + plan.query_decays);
  forward.values = chunked.v, forward.hat = chunked.k_hat, forward.states = chunked.states;
  forward.start = {p.state_in, p.initial_state, nullptr}, forward.end = {p.state_out, nullptr, nullptr};
  walk_fused(chunked, reverse, &forward, p.stream);
  gradients_of_chunks(chunked, {p.dq, p.dq_stride}, {p.dk, p.dk_stride}, {p.dg, p.dg_stride}, p.stream);
  finish_head_gates(p, chunked);
}

// Rows of all heads, of `columns` each.
template <class Params>
gla::MappedHeads mapped_heads(const Params& p, const gla::Rows& rows, int64_t columns) {
  gla::MappedHeads heads = {rows, {}};
  if (p.tokens > 0) {
    heads.map = map_of_heads(rows.data, columns, p.kv_heads, p.tokens, rows.stride, gla::CHUNK);
  }
  return heads;
}

// A walk over q's or dq's, k's or dk's heads. Its rows and where it ends are the caller's.
template <class Params>
gla::HeadWalk head_walk_of(const Params& p, const GatedLinearAttentionPlan& plan, bool of_keys,
                           bool reverse) {
  char* workspace = static_cast<char*>(p.workspace);
  const auto floats = [&](int64_t first) { return reinterpret_cast<float*>(workspace + first); };
  gla::HeadWalk walk = {};
  walk.of_keys = of_keys, walk.reverse = reverse;
  walk.rows = static_cast<int>(of_keys ? p.key_size : p.value_size);
  walk.columns = static_cast<int>(of_keys ? p.value_size : p.key_size);
  walk.factor = static_cast<float>(p.scale);
  walk.start_factor = walk.end_factor = 1.0f;
  walk.segment_chunks = plan.segment_chunks, walk.slots = plan.segment_slots;
  walk.leads = plan.segments_lead;
  walk.segment_states = floats(!of_keys  ? plan.segment_states
                               : reverse ? plan.key_states
                                         : plan.query_states);
  walk.segment_decays = floats(!of_keys  ? plan.segment_decays
                               : reverse ? plan.key_decays
                                         : plan.query_decays);
  return walk;
}

void run_by_heads(const GatedLinearAttentionForward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  const gla::Chunked chunked = chunked_of(p, plan);
  gla::HeadWalk output = head_walk_of(p, plan, false, false);
  output.values = mapped_heads(p, chunked.v, p.value_size);
  output.hat = mapped_heads(p, chunked.k, p.key_size), output.emit = mapped_heads(p, chunked.q, p.key_size);
  output.to = {p.o, p.o_stride};
  output.start = {p.state_in, p.initial_state, nullptr}, output.end = {p.state_out, nullptr, p.final_state};
  walk_heads(chunked, output, p.stream);
}

void run_by_heads(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  const gla::Chunked chunked = chunked_of(p, plan);
  const gla::MappedHeads q = mapped_heads(p, chunked.q, p.key_size);
  const gla::MappedHeads k = mapped_heads(p, chunked.k, p.key_size);
  const gla::MappedHeads v = mapped_heads(p, chunked.v, p.value_size);
  const gla::MappedHeads d_o = mapped_heads(p, {p.d_o, p.d_o_stride}, p.value_size);
  gla::HeadWalks walks = {};
  walks.gradients_wanted = p.dq != nullptr || p.dk != nullptr;
  walks.values_wanted = p.dv != nullptr || p.d_initial_state != nullptr;
  walks.values = head_walk_of(p, plan, false, true);
  walks.values.values = d_o, walks.values.hat = q, walks.values.emit = k;
  walks.values.to = {p.dv, p.dv_stride};
  walks.values.start = {p.state_out, p.d_final_state, nullptr};
  walks.values.end = {p.state_in, nullptr, p.d_initial_state};
  walks.values.start_factor = 1.0f / chunked.scale, walks.values.end_factor = chunked.scale;
  walks.queries = head_walk_of(p, plan, true, false);
  walks.queries.values = k, walks.queries.hat = v, walks.queries.emit = d_o;
  walks.queries.to = {p.dq, p.dq_stride};
  walks.queries.start = {p.state_in, p.initial_state, nullptr};
  walks.keys = head_walk_of(p, plan, true, true);
  walks.keys.values = q, walks.keys.hat = d_o, walks.keys.emit = v;
  walks.keys.to = {p.dk, p.dk_stride};
  walks.keys.start = {p.state_out, p.d_final_state, nullptr};
  walks.keys.start_factor = 1.0f / chunked.scale;
  walk_heads_backward(chunked, walks, p.stream);
}

void run_chunked(const GatedLinearAttentionForward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  const gla::Chunked chunked = chunked_of(p, plan);
  prepare_chunks(chunked, p.stream);
  const gla::StateWalk walk = {
      false, {p.state_in, p.initial_state, nullptr}, {p.state_out, nullptr, p.final_state}};
  walk_states(chunked, &walk, 1, p.stream);
  output_of_chunks(chunked, {p.o, p.o_stride}, p.stream);
}

void run_chunked(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = chunked_of(p, plan);
  chunked.d_o = {p.d_o, p.d_o_stride};
  const bool only_values = p.dq == nullptr && p.dk == nullptr && p.dg == nullptr && p.d_head_g == nullptr;
  const gla::StateWalk walks[2] = {
      {true, {p.state_out, p.d_final_state, nullptr}, {p.state_in, nullptr, p.d_initial_state}},
      {false, {p.state_in, p.initial_state, nullptr}, {p.state_out, nullptr, nullptr}}};
  prepare_chunks(chunked, p.stream);
  walk_states(chunked, walks, only_values ? 1 : 2, p.stream);
  if (p.dv != nullptr) d_values_of_chunks(chunked, {p.dv, p.dv_stride}, p.stream);
  if (only_values) return;
  if (chunked.group > 1) d_scores_of_chunks(chunked, p.stream);
  gradients_of_chunks(chunked, {p.dq, p.dq_stride}, {p.dk, p.dk_stride}, {p.dg, p.dg_stride}, p.stream);
  finish_head_gates(p, chunked);
}

}  // namespace

namespace cuda {

template <class T>
int64_t gated_linear_attention_forward_workspace(const GatedLinearAttentionForward<T>& p) {
  return plan_of(p).bytes;
}
template <class T>
int64_t gated_linear_attention_backward_workspace(const GatedLinearAttentionBackward<T>& p) {
  return plan_of(p).bytes;
}

template <class T>
void gated_linear_attention_forward(const GatedLinearAttentionForward<T>& p) {
  const GatedLinearAttentionPlan plan = plan_of(p);
  if (p.final_state != nullptr && p.final_state != p.initial_state) {
    gla::zero_unnamed_slots(p.final_state, p.slots, p.kv_heads * p.key_size * p.value_size, p.state_out,
                            p.sequences, p.stream);
  }
  if (plan.path == Path::kStep) return gla::run_step(p);
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (plan.path == Path::kFused) return plan.by_heads ? run_by_heads(p, plan) : run_fused(p, plan);
    if (plan.path == Path::kChunked) return run_chunked(p, plan);
  }
  gla::run_recurrence(p);
}

template <class T>
void gated_linear_attention_backward(const GatedLinearAttentionBackward<T>& p) {
  const GatedLinearAttentionPlan plan = plan_of(p);
  if (p.d_initial_state != nullptr) {
    gla::zero_unnamed_slots(p.d_initial_state, p.slots, p.kv_heads * p.key_size * p.value_size, p.state_in,
                            p.sequences, p.stream);
  }
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (plan.path == Path::kFused) return plan.by_heads ? run_by_heads(p, plan) : run_fused(p, plan);
    if (plan.path == Path::kChunked) return run_chunked(p, plan);
  }
  gla::run_recurrence(p, plan);
}

template int64_t gated_linear_attention_forward_workspace(const GatedLinearAttentionForward<float>&);
template int64_t gated_linear_attention_forward_workspace(const GatedLinearAttentionForward<bfloat16>&);
template int64_t gated_linear_attention_backward_workspace(const GatedLinearAttentionBackward<float>&);
template int64_t gated_linear_attention_backward_workspace(const GatedLinearAttentionBackward<bfloat16>&);
template void gated_linear_attention_forward(const GatedLinearAttentionForward<float>&);
template void gated_linear_attention_forward(const GatedLinearAttentionForward<bfloat16>&);
template void gated_linear_attention_backward(const GatedLinearAttentionBackward<float>&);
template void gated_linear_attention_backward(const GatedLinearAttentionBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
