#include "mixers/softmax_attention.h"

#include <cmath>

#include "ops/earlier_rows.h"
#include "ops/gated_head_norm.h"

namespace sluice {
namespace {

// The position of each token in its sequence, counted from the tokens its slot has seen before.
std::vector<int64_t> positions_of(const ops::SequenceLayout& layout, const SoftmaxAttentionState& state) {
  std::vector<int64_t> positions(static_cast<size_t>(layout.tokens()));
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    const int64_t slot = layout.state_in[s];
    const int64_t before = slot >= 0 ? state.slots[slot].position : 0;
    for (int64_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t) {
      positions[t] = before + t - layout.offsets[s];
    }
  }
  return positions;
}

// Rows for `needed` more tokens: a fresh, larger buffer, so that clones of the state keep what they saw.
void append(SoftmaxAttentionState::Slot& slot, const Tensor& keys, const Tensor& values,
            std::optional<int64_t> window) {
  const int64_t added = keys.size(0);
  // Queries to come reach back window - 1 keys at most.
  const int64_t kept = window ? std::min(slot.length, *window - 1) : slot.length;
  const int64_t needed = kept + added;
  const bool fits = slot.keys.defined() && slot.length + added <= slot.keys.size(0);
  if (!fits) {
    const int64_t capacity = std::max<int64_t>({2 * needed, 64});
    const Shape shape{capacity, keys.size(1)};
    const Tensor new_keys = Tensor::empty(shape, keys.dtype(), keys.device());
    const Tensor new_values = Tensor::empty(shape, keys.dtype(), keys.device());
    if (kept > 0) {
      new_keys.narrow(0, 0, kept).copy_from(slot.keys.narrow(0, slot.length - kept, kept));
      new_values.narrow(0, 0, kept).copy_from(slot.values.narrow(0, slot.length - kept, kept));
    }
    slot.keys = new_keys;
    slot.values = new_values;
    slot.length = kept;
  }
  slot.keys.narrow(0, slot.length, added).copy_from(keys);
  slot.values.narrow(0, slot.length, added).copy_from(values);
  slot.length += added;
  slot.position += added;
}

}  // namespace

int64_t SoftmaxAttentionState::bytes() const {
  int64_t total = 0;
  for (const Slot& slot : slots) total += slot.keys.defined() ? slot.keys.bytes() + slot.values.bytes() : 0;
  return total;
}

std::unique_ptr<nn::MixerState> SoftmaxAttentionState::clone() const {
  auto copy = std::make_unique<SoftmaxAttentionState>(*this);
  // Appending writes behind the rows in use, so two continuations of one state need buffers of their own.
  for (Slot& slot : copy->slots) {
    if (!slot.keys.defined()) continue;
    slot.keys = slot.keys.clone();
    slot.values = slot.values.clone();
  }
  return copy;
}

void SoftmaxAttentionState::overwrite(const nn::MixerState&) {
  SLUICE_FAIL(kInternal, "a cache of keys and values has no fixed shape");
}

SoftmaxAttention::SoftmaxAttention(const SoftmaxAttentionSizes& sizes)
    : sizes_(sizes),
      input_(sizes.hidden_size,
             {{"q_proj", sizes.hidden_size}, {"k_proj", sizes.kv_dim()}, {"v_proj", sizes.kv_dim()}},
             sizes.qkv_bias),
      q_norm_(sizes.head_dim(), kHeadNormEps, sizes.qk_norm),
      k_norm_(sizes.head_dim(), kHeadNormEps, sizes.qk_norm),
      output_(sizes.hidden_size, {{"o_proj", sizes.hidden_size}}) {
  add_child("", input_);
  add_child("q_norm", q_norm_);
  add_child("k_norm", k_norm_);
  add_child("", output_);
}

nn::Branch SoftmaxAttention::forward(const Variable& x, const ops::SequenceLayout& layout,
                                     nn::MixerState* state) const {
  auto* cache = dynamic_cast<SoftmaxAttentionState*>(state);
  SLUICE_ASSERT((state == nullptr) == (cache == nullptr));
  const ops::RotaryTable table =
      cache != nullptr
          ? ops::make_rotary_table(positions_of(layout, *cache), sizes_.head_dim(), sizes_.rope_theta,
                                   x.dtype(), x.device())
          : ops::rotary_table_of(layout, sizes_.head_dim(), sizes_.rope_theta, x.dtype(), x.device());
  const std::vector<Variable> parts = turned_parts(x, table);
  const Variable& q = parts[0];
  if (cache != nullptr) return output_.branch(attend_with_state(q, parts[1], parts[2], layout, *cache));
  const ops::IndexArray& offsets = layout.indices().offsets;
  if (layout.part == nullptr) {
    return output_.branch(ops::softmax_attention(q, parts[1], parts[2], options_for(offsets, offsets)));
  }
  const ops::EarlierRows& earlier = ops::earlier_rows_of(layout, sizes_.window_size.value_or(0));
  // All processes must join in the same order.
  const Variable k = earlier.join(parts[1]), v = earlier.join(parts[2]);
  return output_.branch(ops::softmax_attention(q, k, v, options_for(offsets, earlier.offsets())));
}

std::vector<Variable> SoftmaxAttention::turned_parts(const Variable& x, const ops::RotaryTable& table) const {
  if (!sizes_.qk_norm) {
    return ops::split_rotary(input_.forward(x), input_.widths(), table,
                             sizes_.num_heads + sizes_.num_kv_heads);
  }
  const auto parts = input_.forward_split(x);
  const auto turned = [&](const Variable& part, const nn::RmsNorm& norm, int64_t heads) {
    return ops::rotary(ops::gated_head_norm(part, Variable(), norm.weight(), heads, kHeadNormEps), table,
                       heads);
  };
  return {turned(parts[0], q_norm_, sizes_.num_heads), turned(parts[1], k_norm_, sizes_.num_kv_heads),
          parts[2]};
}

ops::SoftmaxAttentionOptions SoftmaxAttention::options_for(const ops::IndexArray& q_offsets,
                                                           const ops::IndexArray& k_offsets) const {
  ops::SoftmaxAttentionOptions options;
  options.heads = sizes_.num_heads;
  options.kv_heads = sizes_.num_kv_heads;
  options.window = sizes_.window_size.value_or(0);
  options.scale = 1.0 / std::sqrt(static_cast<double>(sizes_.head_dim()));
  options.q_offsets = q_offsets;
  options.k_offsets = k_offsets;
  return options;
}

Variable SoftmaxAttention::attend_with_state(const Variable& q, const Variable& k, const Variable& v,
                                             const ops::SequenceLayout& layout,
                                             SoftmaxAttentionState& state) const {
  SLUICE_CHECK(!grad_enabled(), kInternal, "softmax attention cannot be trained over a carried state");
  const Tensor output = Tensor::empty(q.shape(), q.dtype(), q.device());
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    const int64_t first = layout.offsets[s], length = layout.offsets[s + 1] - first;
    // A sequence that keeps no state works on a slot of its own that is dropped afterwards.
    SoftmaxAttentionState::Slot slot;
    if (layout.state_in[s] >= 0) std::swap(slot, state.slots[layout.state_in[s]]);
    if (length > 0) {
      append(slot, k.value().narrow(0, first, length), v.value().narrow(0, first, length),
             sizes_.window_size);
      const Variable attended = ops::softmax_attention(
          Variable(q.value().narrow(0, first, length)), Variable(slot.keys.narrow(0, 0, slot.length)),
          Variable(slot.values.narrow(0, 0, slot.length)),
          options_for(std::vector<int64_t>{0, length}, std::vector<int64_t>{0, slot.length}));
      output.narrow(0, first, length).copy_from(attended.value());
    }
    if (layout.state_out[s] >= 0) state.slots[layout.state_out[s]] = std::move(slot);
  }
  return Variable(output);
}

std::unique_ptr<nn::MixerState> SoftmaxAttention::make_state(int64_t slots, DType, Device) const {
  auto state = std::make_unique<SoftmaxAttentionState>();
  state->slots.resize(static_cast<size_t>(slots));
  return state;
}

int64_t SoftmaxAttention::state_bytes(int64_t length, DType dtype) const {
  const int64_t reach = sizes_.window_size ? std::min(length, *sizes_.window_size) : length;
  return 2 * reach * sizes_.kv_dim() * size_of(dtype);
}

double SoftmaxAttention::flops_per_token(int64_t length) const {
  const double projections =
      2.0 * static_cast<double>(input_.in() * input_.out() + output_.in() * output_.out());
  // A query sees half the sequence on average, or its window: scores and weighted sum, 2 FLOPs each.
  double keys = static_cast<double>(length) / 2.0;
  if (sizes_.window_size) keys = std::min(keys, static_cast<double>(*sizes_.window_size));
  return projections + 4.0 * keys * static_cast<double>(sizes_.hidden_size);
}

}  // namespace sluice
