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

void run_fused(const GatedLinearAttentionForward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = chunked_of(p, plan);
  chunked.flipped = true;
  if (plan.by_heads) {
    prepare_chunks_of_heads(chunked, p.stream);
  } else {
    prepare_chunks(chunked, p.stream);
  }
  gla::FusedWalk walk = fused_walk_of(p, plan);
  walk.values = chunked.v, walk.hat = chunked.k_hat, walk.emit_hat = chunked.q_hat;
  walk.to = {p.o, p.o_stride};
  walk.start = {p.state_in, p.initial_state, nullptr}, walk.end = {p.state_out, nullptr, p.final_state};
  walk_fused(chunked, walk, p.stream);
}

void run_fused(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  gla::Chunked chunked = chunked_of(p, plan);
  chunked.d_o = {p.d_o, p.d_o_stride};
  const bool only_values = p.dq == nullptr && p.dk == nullptr && p.dg == nullptr;
  prepare_chunks(chunked, p.stream);
  gla::FusedWalk reverse = fused_walk_of(p, plan);
  reverse.reverse = true;
  reverse.values = chunked.d_o, reverse.hat = chunked.q_hat, reverse.emit_hat = chunked.k_hat;
  reverse.to = {p.dv, p.dv_stride}, reverse.states = only_values ? nullptr : chunked.d_states;
  reverse.start = {p.state_out, p.d_final_state, nullptr},
  reverse.end = {p.state_in, nullptr, p.d_initial_state};
  reverse.start_factor = 1.0f / chunked.factor, reverse.end_factor = chunked.factor;
  walk_fused(chunked, reverse, p.stream);
  if (only_values) return;
  gla::FusedWalk forward = fused_walk_of(p, plan);
  forward.values = chunked.v, forward.hat = chunked.k_hat, forward.states = chunked.states;
  forward.start = {p.state_in, p.initial_state, nullptr}, forward.end = {p.state_out, nullptr, nullptr};
  walk_fused(chunked, forward, p.stream);
  gradients_of_chunks(chunked, {p.dq, p.dq_stride}, {p.dk, p.dk_stride}, {p.dg, p.dg_stride}, p.stream);
}

// dO and v in the places of q and k, for the walks that emit dq and dk.
gla::Chunked swapped_of(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan,
                        const gla::Chunked& chunked) {
  char* workspace = static_cast<char*>(p.workspace);
  gla::Chunked swapped = chunked;
  swapped.key_size = chunked.value_size, swapped.value_size = chunked.key_size;
  swapped.power = 1.0f, swapped.factor = chunked.scale;
  swapped.q = {p.d_o, p.d_o_stride}, swapped.k = chunked.v;
  swapped.decay = reinterpret_cast<float*>(workspace + plan.o_decay);
  swapped.q_hat = reinterpret_cast<bfloat16*>(workspace + plan.o_hat);
  swapped.k_hat = reinterpret_cast<bfloat16*>(workspace + plan.v_hat);
  swapped.panels = gla::value_panels(p.value_size);
  return swapped;
}

// Heads that decay as a whole: four walks in all, and no states in memory but for the gates' gradient.
void run_by_heads(const GatedLinearAttentionBackward<bfloat16>& p, const GatedLinearAttentionPlan& plan) {
  char* workspace = static_cast<char*>(p.workspace);
  const auto floats = [&](int64_t first) { return reinterpret_cast<float*>(workspace + first); };
  const gla::Chunked chunked = chunked_of(p, plan);
  prepare_chunks_of_heads(chunked, p.stream);
  const bool gated = p.d_head_g != nullptr;
  const bool only_values = p.dq == nullptr && p.dk == nullptr && !gated;
  gla::GradientWalks walks = {};
  if (p.dv != nullptr || p.d_initial_state != nullptr) {
    gla::FusedWalk values = fused_walk_of(p, plan);
    values.reverse = true;
    values.values = {p.d_o, p.d_o_stride}, values.hat = chunked.q_hat, values.emit_hat = chunked.k_hat;
    values.to = {p.dv, p.dv_stride};
    values.start = {p.state_out, p.d_final_state, nullptr};
    values.end = {p.state_in, nullptr, p.d_initial_state};
    values.start_factor = 1.0f / chunked.factor, values.end_factor = chunked.factor;
    walks.values = values, walks.together = plan.together && !only_values;
    if (!walks.together) walk_fused(chunked, values, p.stream);
  }
  if (only_values) return;
  const gla::Chunked swapped = swapped_of(p, plan, chunked);
  gla::GradientScores scores = {};
  scores.of_queries = reinterpret_cast<bfloat16*>(workspace + plan.query_scores);
  scores.of_keys = reinterpret_cast<bfloat16*>(workspace + plan.key_scores);
  scores.query_factors = floats(plan.query_factors), scores.key_factors = floats(plan.key_factors);
  scores.scores = chunked.scores, scores.factor = chunked.factor;
  scores.diagonal = floats(plan.diagonal), scores.near = floats(plan.near);
  prepare_gradients_of_heads(swapped, scores, gated, p.stream);

  gla::FusedWalk queries = fused_walk_of(p, plan);
  queries.segment_states = floats(plan.gradient_states);
  queries.segment_decays = floats(plan.gradient_decays);
  queries.gradient.head_gate.diagonal = scores.diagonal;
  queries.gradient.head_gate.states = workspace + plan.kept_states;
  gla::FusedWalk keys = queries;
  const gla::GradientSegmentation segments =
      gla::gradient_segmentation_of(p.chunks, p.sequences, p.heads, p.key_size, p.value_size, gated);
  keys.segment_states += segments.gradient_states / 2, keys.segment_decays += segments.gradient_decays / 2;
  queries.values = chunked.k, queries.hat = swapped.k_hat, queries.to = {p.dq, p.dq_stride};
  queries.start = {p.state_in, p.initial_state, nullptr}, queries.start_factor = 1.0f;
  queries.gradient.emit = swapped.q;
  queries.gradient.scores = scores.of_queries, queries.gradient.row_factors = scores.query_factors;
  queries.gradient.head_gate.own = chunked.q, queries.gradient.head_gate.other = chunked.k;
  queries.gradient.head_gate.totals = floats(plan.q_totals);
  keys.reverse = true;
  keys.values = chunked.q, keys.hat = swapped.q_hat, keys.to = {p.dk, p.dk_stride};
  keys.start = {p.state_out, p.d_final_state, nullptr}, keys.start_factor = 1.0f / chunked.scale;
  keys.gradient.emit = swapped.k;
  keys.gradient.scores = scores.of_keys, keys.gradient.row_factors = scores.key_factors;
  keys.gradient.head_gate.own = chunked.k, keys.gradient.head_gate.other = chunked.q;
  keys.gradient.head_gate.totals = floats(plan.k_totals), keys.gradient.head_gate.dots = floats(plan.dots);
  walks.queries = queries, walks.keys = keys, walks.gated = gated;
  walk_fused_gradients(chunked, swapped, walks, p.stream);
  if (!gated) return;
  gla::HeadGateGradient gradient = {};
  gradient.q_totals = floats(plan.q_totals), gradient.k_totals = floats(plan.k_totals);
  gradient.near = scores.near, gradient.dots = floats(plan.dots), gradient.decay = swapped.decay;
  const gla::HeadGateElements elements = gla::head_gate_elements(1, 1, p.key_size, p.value_size);
  gradient.groups = static_cast<int>(elements.totals / gla::CHUNK);
  gradient.dots_each = static_cast<int>(elements.dots), gradient.decays_each = swapped.panels * 64;
  gradient.to = {p.d_head_g, p.d_head_g_stride};
  gradient_of_head_gates(chunked, gradient, p.stream);
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
  if (p.d_head_g != nullptr) {
    chunked.head_gate_parts =
        reinterpret_cast<float*>(static_cast<char*>(p.workspace) + plan.head_gate_parts);
  }
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
  if (p.d_head_g != nullptr) {
    gla::sum_head_gate_parts(chunked.head_gate_parts, p.tokens, p.kv_heads, (p.key_size + 63) / 64,
                             p.d_head_g, p.d_head_g_stride, p.stream);
  }
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
  if (p.final_state != nullptr) {
    gla::zero_unnamed_slots(p.final_state, p.slots, p.kv_heads * p.key_size * p.value_size, p.state_out,
                            p.sequences, p.stream);
  }
  if (plan.path == Path::kStep) return gla::run_step(p);
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (plan.path == Path::kFused) return run_fused(p, plan);
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
