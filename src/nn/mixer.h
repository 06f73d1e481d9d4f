// The seam between a model and its token mixers: gated linear attention, softmax attention, and whatever
// comes. Generation, evaluation and truncated backpropagation ask this interface what a mixer's state costs
// and never know mixers by name.
#pragma once

#include <memory>

#include "nn/module.h"
#include "nn/residual_stream.h"
#include "ops/sequence_layout.h"

namespace sluice::nn {

// What one mixer remembers of the tokens before: a slot for each row of the batch.
class MixerState {
 public:
  virtual ~MixerState() = default;
  virtual int64_t bytes() const = 0;  // held now
  virtual std::unique_ptr<MixerState> clone()
      const = 0;              // shares tensors; a forward replaces, never writes them
  virtual void detach() = 0;  // cuts the gradient's way into earlier tokens
  // Whether the state lies in tensors of the same shape whatever was seen, so that overwrite() can be used.
  virtual bool has_fixed_shape() const = 0;
  // Puts the numbers of `other`, a state of the same mixer and slots, into this state's memory.
  virtual void overwrite(const MixerState& other) = 0;
};

class Mixer : public Module {
 public:
  // x [N, hidden] (normalised), N tokens laid out by `layout`.
  // `state`: read for sequences that continue a slot, replaced by the state after the last token; null: every
  // sequence starts from nothing and nothing is kept.
  virtual Branch forward(const Variable& x, const ops::SequenceLayout& layout, MixerState* state) const = 0;

  // One more token for each slot: x [slots, hidden]. The same numbers as forward() over the whole sequence.
  Branch step(const Variable& x, MixerState& state) const;

  virtual std::unique_ptr<MixerState> make_state(int64_t slots, DType dtype, Device device) const = 0;
  // Bytes of one slot's state after `length` tokens, in compute type `dtype`.
  virtual int64_t state_bytes(int64_t length, DType dtype) const = 0;
  // Whether gradients may start from a carried state (truncated backpropagation).
  virtual bool trains_with_state() const = 0;
  // Forward FLOPs of one token in a sequence of `length`, projections included.
  virtual double flops_per_token(int64_t length) const = 0;

  // Whether the state stops growing at some length.
  bool has_constant_state() const;
};

}  // namespace sluice::nn
