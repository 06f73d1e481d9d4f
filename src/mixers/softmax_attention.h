// Causal softmax attention with rotary positions, grouped key and value heads and an optional sliding window,
// equal to flash-linear-attention's `Attention` layer (LLaMA style).
#pragma once

#include <optional>

#include "nn/linear.h"
#include "nn/mixer.h"
#include "nn/rms_norm.h"
#include "ops/rotary.h"
#include "ops/softmax_attention.h"

namespace sluice {

struct SoftmaxAttentionSizes {
  int64_t hidden_size = 0;
  int64_t num_heads = 32;
  int64_t num_kv_heads = 32;
  bool qkv_bias = false;
  bool qk_norm = false;
  std::optional<int64_t> window_size;  // a query sees so many keys, itself included
  double rope_theta = 10000.0;

  int64_t head_dim() const { return hidden_size / num_heads; }
  int64_t kv_dim() const { return num_kv_heads * head_dim(); }
};

// Rotated keys and values of each slot's earlier tokens; with a window, of those it can still reach.
class SoftmaxAttentionState final : public nn::MixerState {
 public:
  struct Slot {
    Tensor keys;           // [capacity, kv_dim]
    Tensor values;         // [capacity, kv_dim]
    int64_t length = 0;    // rows in use
    int64_t position = 0;  // tokens seen: the next token's position
  };

  int64_t bytes() const override;
  std::unique_ptr<nn::MixerState> clone() const override;
  void detach() override {}
  bool has_fixed_shape() const override { return false; }
  void overwrite(const nn::MixerState& other) override;

  std::vector<Slot> slots;
};

class SoftmaxAttention final : public nn::Mixer {
 public:
  static constexpr double kHeadNormEps = 1e-5;  // of the per-head norms under qk_norm

  explicit SoftmaxAttention(const SoftmaxAttentionSizes& sizes);

  // With a state, gradients must be off: keys and values of earlier tokens are kept as plain numbers.
  nn::Branch forward(const Variable& x, const ops::SequenceLayout& layout,
                     nn::MixerState* state) const override;
  std::unique_ptr<nn::MixerState> make_state(int64_t slots, DType dtype, Device device) const override;
  int64_t state_bytes(int64_t length, DType dtype) const override;
  bool trains_with_state() const override { return false; }
  double flops_per_token(int64_t length) const override;

 private:
  // Queries, keys and values; the first two normed, where that is wished, and turned.
  std::vector<Variable> turned_parts(const Variable& x, const ops::RotaryTable& table) const;
  ops::SoftmaxAttentionOptions options_for(const ops::IndexArray& q_offsets,
                                           const ops::IndexArray& k_offsets) const;
  Variable attend_with_state(const Variable& q, const Variable& k, const Variable& v,
                             const ops::SequenceLayout& layout, SoftmaxAttentionState& state) const;

  SoftmaxAttentionSizes sizes_;
  nn::Linear input_;  // q, k, v
  nn::RmsNorm q_norm_;
  nn::RmsNorm k_norm_;
  nn::Linear output_;
};

}  // namespace sluice
