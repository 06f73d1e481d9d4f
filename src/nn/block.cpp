#include "nn/block.h"

namespace sluice::nn {

Block::Block(const BlockSizes& sizes, std::unique_ptr<Mixer> mixer)
    : mixer_norm_(sizes.hidden_size, sizes.norm_eps, sizes.elementwise_affine),
      mixer_(std::move(mixer)),
      mlp_norm_(sizes.hidden_size, sizes.norm_eps, sizes.elementwise_affine),
      mlp_(sizes.hidden_size, sizes.intermediate_size) {
  add_child("attn_norm", mixer_norm_);
  add_child("attn", *mixer_);
  add_child("mlp_norm", mlp_norm_);
  add_child("mlp", mlp_);
}

ResidualStream Block::forward(const ResidualStream& stream, DType compute, const ops::SequenceLayout& layout,
                              MixerState* state) const {
  const auto before_mixer = mixer_norm_.forward(stream, compute);
  const Branch mixed = mixer_->forward(before_mixer.normalised, layout, state);
  const auto before_mlp = mlp_norm_.forward({before_mixer.hidden, mixed}, compute);
  return {before_mlp.hidden, mlp_.forward(before_mlp.normalised)};
}

}  // namespace sluice::nn
