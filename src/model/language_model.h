// A causal language model: embedding, blocks, final norm and output projection, over a packed batch of
// tokens.
#pragma once

#include <memory>
#include <vector>

#include "model/model_config.h"
#include "nn/block.h"

namespace sluice {

// What every layer remembers of the tokens before.
class ModelState {
 public:
  std::vector<std::unique_ptr<nn::MixerState>> layers;

  int64_t bytes() const;
  void detach();
  ModelState clone() const;
  // See nn::MixerState.
  bool has_fixed_shape() const;
  void overwrite(const ModelState& other) const;
};

struct LossOptions {
  int32_t ignore_index = -100;
  // What the sum of the token losses is divided by; 0: the number of labels that are not ignored.
  double denominator = 0;
};

class LanguageModel : public nn::Module {
 public:
  // Shapes and names only; parameters get their memory from nn::allocate or optim's arena.
  explicit LanguageModel(const ModelConfig& config);

  const ModelConfig& config() const { return config_; }
  int64_t parameter_count() const;
  // Initial weights, a function of the seed alone.
  void initialize_weights(uint64_t seed) const;

  // tokens i32 [N] -> normalised hidden states [N, hidden]. `state` is read and replaced; null: none.
  // `recompute_layers`: keep only each layer's input for backward. (What else is kept or made again follows
  // the caller's SelectiveRecomputeScope.)
  Variable forward(const Tensor& tokens, const ops::SequenceLayout& layout, ModelState* state,
                   bool recompute_layers = false) const;
  // hidden [N, hidden] -> logits [N, vocabulary], f32 where the model computes in bf16. No gradient.
  Tensor logits(const Variable& hidden) const;
  // Cross-entropy of labels i32 [N] under the logits of `hidden`, which never exist whole; a scalar.
  Variable loss(const Variable& hidden, const Tensor& labels, const LossOptions& options = {}) const;
  // -log p(label) for each token, [N]; 0 where the label is ignored. No gradient.
  Tensor token_losses(const Variable& hidden, const Tensor& labels, int32_t ignore_index = -100) const;

  ModelState make_state(int64_t slots) const;
  // Bytes of one sequence's state after `length` tokens.
  int64_t state_bytes(int64_t length) const;
  // Whether the state of every layer stops growing, and whether training may carry it across segments.
  bool has_constant_state() const;
  bool trains_with_state() const;
  // FLOPs of one token in a sequence of `length`: forward, or three times that with backward.
  double forward_flops_per_token(int64_t length) const;
  DType dtype() const;
  Device device() const;

 private:
  Variable output_weight() const;

  ModelConfig config_;
  nn::Parameter* embedding_ = nullptr;
  std::vector<std::unique_ptr<nn::Block>> blocks_;
  nn::RmsNorm norm_;
  nn::Parameter* head_ = nullptr;  // null when tied to the embedding
};

}  // namespace sluice
