#include "model/language_model.h"

#include <algorithm>

#include "autograd/checkpoint.h"
#include "core/error.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/linear_cross_entropy.h"

namespace sluice {

int64_t ModelState::bytes() const {
  int64_t total = 0;
  for (const auto& layer : layers) total += layer->bytes();
  return total;
}

void ModelState::detach() {
  for (const auto& layer : layers) layer->detach();
}

ModelState ModelState::clone() const {
  ModelState copy;
  for (const auto& layer : layers) copy.layers.push_back(layer->clone());
  return copy;
}

bool ModelState::has_fixed_shape() const {
  return std::all_of(layers.begin(), layers.end(),
                     [](const auto& layer) { return layer->has_fixed_shape(); });
}

void ModelState::overwrite(const ModelState& other) const {
  for (size_t i = 0; i < layers.size(); ++i) layers[i]->overwrite(*other.layers[i]);
}

LanguageModel::LanguageModel(const ModelConfig& config)
    : config_(config), norm_(config.hidden_size, config.norm_eps, config.elementwise_affine) {
  const Shape table{config.vocab_size, config.hidden_size};
  embedding_ = &add_parameter("model.embeddings.weight", table, nn::ParameterRole::kEmbedding,
                              nn::Initializer::kNormal);
  const nn::BlockSizes sizes{config.hidden_size, config.mlp_width(), config.norm_eps,
                             config.elementwise_affine};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    blocks_.push_back(std::make_unique<nn::Block>(sizes, config.mixers->make(layer)));
    add_child(fmt::format("model.layers.{}", layer), *blocks_.back());
  }
  add_child("model.norm", norm_);
  if (!config.tie_word_embeddings) {
    head_ = &add_parameter("lm_head.weight", table, nn::ParameterRole::kMatrix, nn::Initializer::kNormal);
  }
}

int64_t LanguageModel::parameter_count() const {
  int64_t count = 0;
  for (const nn::Parameter* parameter : parameters()) count += parameter->numel();
  return count;
}

void LanguageModel::initialize_weights(uint64_t seed) const {
  for (const nn::Parameter* parameter : parameters())
    nn::initialize(*parameter, seed, config_.initializer_range);
}

Variable LanguageModel::forward(const Tensor& tokens, const ops::SequenceLayout& layout, ModelState* state,
                                bool recompute_layers) const {
  layout.validate(tokens.numel());
  // Recomputation reads the layout again during backward, when the caller's may be gone.
  const auto kept_layout = std::make_shared<const ops::SequenceLayout>(layout);
  nn::ResidualStream stream{ops::embedding(tokens, embedding_->variable()), {}};
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const nn::Block& block = *blocks_[layer];
    nn::MixerState* carried = state != nullptr ? state->layers[layer].get() : nullptr;
    if (!recompute_layers || !grad_enabled()) {
      stream = block.forward(stream, dtype(), layout, carried);
      continue;
    }
    // The layer runs twice from one state: the first run's outcome is kept, the second one's dropped.
    const std::shared_ptr<nn::MixerState> before = carried != nullptr ? carried->clone() : nullptr;
    auto outcome = std::make_shared<std::unique_ptr<nn::MixerState>>();
    const auto run = [&block, compute = dtype(), kept_layout, before,
                      outcome](const std::vector<Variable>& in) {
      auto own = before != nullptr ? before->clone() : nullptr;
      const auto out = block.forward({in[0], {}}, compute, *kept_layout, own.get()).settled();
      *outcome = std::move(own);
      return std::vector<Variable>{out.hidden};
    };
    stream = {checkpoint(run, {stream.hidden})[0], {}};
    if (carried != nullptr) state->layers[layer] = std::move(*outcome);
  }
  return norm_.forward(stream, dtype()).normalised;
}

Variable LanguageModel::output_weight() const { return (head_ != nullptr ? head_ : embedding_)->variable(); }

Tensor LanguageModel::logits(const Variable& hidden) const {
  return ops::project(hidden.value(), output_weight().value());
}

Variable LanguageModel::loss(const Variable& hidden, const Tensor& labels, const LossOptions& options) const {
  ops::LinearCrossEntropyOptions fused;
  fused.ignore_index = options.ignore_index;
  fused.denominator = options.denominator;
  return ops::linear_cross_entropy(hidden, output_weight(), labels, fused);
}

Tensor LanguageModel::token_losses(const Variable& hidden, const Tensor& labels, int32_t ignore_index) const {
  return ops::cross_entropy_per_token(hidden.value(), output_weight().value(), labels, ignore_index);
}

ModelState LanguageModel::make_state(int64_t slots) const {
  ModelState state;
  for (const auto& block : blocks_)
    state.layers.push_back(block->mixer().make_state(slots, dtype(), device()));
  return state;
}

int64_t LanguageModel::state_bytes(int64_t length) const {
  int64_t bytes = 0;
  for (const auto& block : blocks_) bytes += block->mixer().state_bytes(length, dtype());
  return bytes;
}

bool LanguageModel::has_constant_state() const {
  return std::all_of(blocks_.begin(), blocks_.end(),
                     [](const auto& block) { return block->mixer().has_constant_state(); });
}

bool LanguageModel::trains_with_state() const {
  return std::all_of(blocks_.begin(), blocks_.end(),
                     [](const auto& block) { return block->mixer().trains_with_state(); });
}

double LanguageModel::forward_flops_per_token(int64_t length) const {
  double flops = 2.0 * static_cast<double>(config_.hidden_size * config_.vocab_size);
  for (const auto& block : blocks_) flops += block->flops_per_token(length);
  return flops;
}

DType LanguageModel::dtype() const { return embedding_->variable().dtype(); }
Device LanguageModel::device() const { return embedding_->variable().device(); }

}  // namespace sluice
