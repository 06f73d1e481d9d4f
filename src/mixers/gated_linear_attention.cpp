#include "mixers/gated_linear_attention.h"

#include <cmath>

#include "ops/gated_head_norm.h"
#include "ops/gated_linear_attention.h"
#include "ops/log_decay_gate.h"
#include "ops/short_convolution.h"

namespace sluice {
namespace {

std::vector<nn::Projection> input_projections(const GatedLinearAttentionSizes& s) {
  std::vector<nn::Projection> projections = {
      {"q_proj", s.key_dim}, {"k_proj", s.key_dim / s.groups()}, {"v_proj", s.value_dim / s.groups()}};
  if (s.use_output_gate) projections.push_back({"g_proj", s.value_dim});
  projections.push_back({"gk_proj.0", GatedLinearAttention::kGateRank});
  return projections;
}

}  // namespace

int64_t GatedLinearAttentionState::bytes() const {
  int64_t total = recurrent.value().bytes();
  for (const Variable& inputs : convolution) total += inputs.defined() ? inputs.value().bytes() : 0;
  return total;
}

std::unique_ptr<nn::MixerState> GatedLinearAttentionState::clone() const {
  return std::make_unique<GatedLinearAttentionState>(*this);
}

void GatedLinearAttentionState::detach() {
  recurrent = recurrent.detach();
  for (Variable& inputs : convolution) inputs = inputs.detach();
}

void GatedLinearAttentionState::overwrite(const nn::MixerState& other) {
  const auto& source = dynamic_cast<const GatedLinearAttentionState&>(other);
  const Tensor& state = recurrent.value();
  if (!state.same_view(source.recurrent.value())) state.copy_from(source.recurrent.value());
  for (size_t i = 0; i < std::size(convolution); ++i) {
    if (convolution[i].defined()) convolution[i].value().copy_from(source.convolution[i].value());
  }
}

GatedLinearAttention::GatedLinearAttention(const GatedLinearAttentionSizes& sizes)
    : sizes_(sizes),
      input_(sizes.hidden_size, input_projections(sizes)),
      gate_(kGateRank, {{"gk_proj.1", sizes.key_dim / sizes.groups()}}, true),
      norm_(sizes.head_value(), sizes.norm_eps, sizes.elementwise_affine),
      output_(sizes.value_dim, {{"o_proj", sizes.hidden_size}}) {
  add_child("", input_);
  if (sizes_.use_short_conv) {
    const std::pair<const char*, int64_t> channels[] = {{"q_conv1d", sizes_.key_dim},
                                                        {"k_conv1d", sizes_.key_dim / sizes_.groups()},
                                                        {"v_conv1d", sizes_.value_dim / sizes_.groups()}};
    for (const auto& [name, count] : channels) {
      nn::Parameter& weight = add_parameter(std::string(name) + ".weight", Shape{count, sizes_.conv_size},
                                            nn::ParameterRole::kConvolution, nn::Initializer::kNormal);
      weight.set_parts({{weight.name(), 0, count, Shape{count, 1, sizes_.conv_size}}});
      convolutions_.push_back(&weight);
    }
  }
  add_child("", gate_);
  add_child(sizes_.fused_norm_name ? "g_norm_swish_gate" : "g_norm", norm_);
  add_child("", output_);
}

nn::Branch GatedLinearAttention::forward(const Variable& x, const ops::SequenceLayout& layout,
                                         nn::MixerState* state) const {
  auto* carried = dynamic_cast<GatedLinearAttentionState*>(state);
  SLUICE_ASSERT((state == nullptr) == (carried == nullptr));
  const auto parts = input_.forward_split(x);
  Variable qkv[3] = {parts[0], parts[1], parts[2]};
  const Variable output_gate = sizes_.use_output_gate ? parts[3] : Variable();
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    const auto convolved =
        ops::short_convolution(qkv[i], convolutions_[i]->variable(),
                               carried ? carried->convolution[i] : Variable(), layout, carried != nullptr);
    qkv[i] = convolved.output;
    if (carried) carried->convolution[i] = convolved.final_state;
  }
  if (sizes_.feature_map) {
    qkv[0] = ops::activation(qkv[0], *sizes_.feature_map);
    qkv[1] = ops::activation(qkv[1], *sizes_.feature_map);
  }
  const Variable g = ops::log_decay_gate(gate_.forward(parts.back()), kGateNormalizer, sizes_.clamp_min);
  ops::GatedLinearAttentionOptions options;
  options.heads = sizes_.num_heads;
  options.kv_heads = sizes_.num_kv_heads;
  options.scale = 1.0 / std::sqrt(static_cast<double>(sizes_.head_key()));
  options.want_final_state = carried != nullptr;
  const auto attended = ops::gated_linear_attention(
      qkv[0], qkv[1], qkv[2], g, carried ? carried->recurrent : Variable(), layout, options);
  if (carried) carried->recurrent = attended.final_state;
  return output_.branch(
      ops::gated_head_norm(attended.output, output_gate, norm_.weight(), sizes_.num_heads, norm_.eps()));
}

std::unique_ptr<nn::MixerState> GatedLinearAttention::make_state(int64_t slots, DType dtype,
                                                                 Device device) const {
  // States stay in fp32 under bf16 activations: a long product of decays and sums must not be rounded each
  // step.
  const DType state_dtype = dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  auto state = std::make_unique<GatedLinearAttentionState>();
  state->recurrent = Variable(Tensor::zeros(
      {slots, sizes_.num_kv_heads, sizes_.head_key(), sizes_.head_value()}, state_dtype, device));
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    const int64_t channels = convolutions_[i]->shape()[0];
    state->convolution[i] = Variable(Tensor::zeros({slots, sizes_.conv_size - 1, channels}, dtype, device));
  }
  return state;
}

int64_t GatedLinearAttention::state_bytes(int64_t, DType dtype) const {
  const int64_t width = dtype == DType::kF64 ? 8 : 4;
  int64_t bytes = sizes_.num_kv_heads * sizes_.head_key() * sizes_.head_value() * width;
  for (const nn::Parameter* weight : convolutions_) {
    bytes += (sizes_.conv_size - 1) * weight->shape()[0] * size_of(dtype);
  }
  return bytes;
}

double GatedLinearAttention::flops_per_token(int64_t) const {
  double flops = 2.0 * static_cast<double>(input_.in() * input_.out() + gate_.in() * gate_.out() +
                                           output_.in() * output_.out());
  for (const nn::Parameter* weight : convolutions_) flops += 2.0 * static_cast<double>(weight->numel());
  // The operation by its recurrence: decay, rank-one update and read-out of each head's K x V state.
  const double state = static_cast<double>(sizes_.key_dim) * static_cast<double>(sizes_.head_value());
  return flops + 4.0 * state;
}

}  // namespace sluice
