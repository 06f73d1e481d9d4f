// The Gated Linear Attention layer (arXiv 2312.06635, section 4.4), equal to flash-linear-attention's.
//
//   q, k, v, gate input = x W^T (one product), optional short convolution + SiLU and feature map on q and k
//   g = max(logsigmoid(a W1^T + b1) / 16, clamp_min)           log decay per key channel
//   o = gated linear attention over each head;  y = (RMSNorm per head (o) . SiLU(x W_g^T)) W_o^T
#pragma once

#include <optional>

#include "nn/linear.h"
#include "nn/mixer.h"
#include "nn/rms_norm.h"
#include "ops/activation.h"

namespace sluice {

struct GatedLinearAttentionSizes {
  int64_t hidden_size = 0;
  int64_t num_heads = 4;
  int64_t num_kv_heads = 4;
  int64_t key_dim = 0;    // of all heads: num_heads * K
  int64_t value_dim = 0;  // of all heads: num_heads * V
  bool use_short_conv = false;
  int64_t conv_size = 4;
  bool use_output_gate = true;
  bool fused_norm_name = true;  // the norm's checkpoint name: g_norm_swish_gate rather than g_norm
  std::optional<ops::Activation> feature_map;
  std::optional<double> clamp_min;
  double norm_eps = 1e-6;
  bool elementwise_affine = true;

  int64_t groups() const { return num_heads / num_kv_heads; }
  int64_t head_key() const { return key_dim / num_heads; }
  int64_t head_value() const { return value_dim / num_heads; }
};

// The recurrent state [slots, kv heads, K, V] and the convolutions' last inputs [slots, conv_size - 1,
// channels].
class GatedLinearAttentionState final : public nn::MixerState {
 public:
  int64_t bytes() const override;
  std::unique_ptr<nn::MixerState> clone() const override;
  void detach() override;
  bool has_fixed_shape() const override { return true; }
  void overwrite(const nn::MixerState& other) override;

  Variable recurrent;
  Variable convolution[3];  // of q, k and v; undefined without short convolutions
};

class GatedLinearAttention final : public nn::Mixer {
 public:
  static constexpr int64_t kGateRank = 16;         // width of the gate's low-rank product
  static constexpr double kGateNormalizer = 16.0;  // what the log-sigmoid is divided by

  explicit GatedLinearAttention(const GatedLinearAttentionSizes& sizes);

  nn::Branch forward(const Variable& x, const ops::SequenceLayout& layout,
                     nn::MixerState* state) const override;
  std::unique_ptr<nn::MixerState> make_state(int64_t slots, DType dtype, Device device) const override;
  int64_t state_bytes(int64_t length, DType dtype) const override;
  bool trains_with_state() const override { return true; }
  double flops_per_token(int64_t length) const override;

 private:
  class ShortConvolution;

  GatedLinearAttentionSizes sizes_;
  nn::Linear input_;                          // q, k, v, output gate, low-rank gate input
  std::vector<nn::Parameter*> convolutions_;  // of q, k and v, or none
  nn::Linear gate_;                           // rank -> log-decay logits, with bias
  nn::RmsNorm norm_;                          // over each head
  nn::Linear output_;
};

}  // namespace sluice
