// A batch whose sequences are the parts of longer ones, cut along their length over several processes: what
// ops that look back need of the other parts.
#pragma once

#include "autograd/variable.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

// Which part this process has, and how it hears of the others. Every process of the group makes the same
// calls in the same order, in forward and in backward.
class SequencePart {
 public:
  SequencePart(int index, int count) : index_(index), count_(count) {}
  virtual ~SequencePart() = default;
  SequencePart(const SequencePart&) = delete;
  SequencePart& operator=(const SequencePart&) = delete;

  int index() const { return index_; }  // 0 is the beginning
  int count() const { return count_; }
  // The tensors of all parts, flat and of equal size, one after the other: [count, numel].
  virtual Tensor gather(const Tensor& mine) const = 0;
  // Of [count, numel] on each process row p is sent to part p; row p of what comes back is part p's.
  virtual Tensor exchange(const Tensor& mine) const = 0;

 private:
  int index_, count_;
};

// The last `reach` inputs before each slot's row, [slots, reach, C]: the end of the part before, zeros in the
// first part. x [N, C]; gradients flow back to the process they came from. Error(kUsage) when a row of the
// part is shorter than `reach`.
Variable inputs_before_part(const Variable& x, int64_t reach, const SequenceLayout& layout);

// Of a recurrent state that decays by rows, S_end = Diag(decay) S_start + S_own: each process gives what its
// part makes of zero, [slots, rows, columns], and the decays, [slots, rows], and gets the state its part
// starts from. The same with gradients at the part's start gives the gradient of the state at its end.
class StateFold {
 public:
  // g [N, channels]: log decays of each token, [1, channels] those of every token, or undefined for none;
  // rows of a slot are its channels.
  StateFold(const Tensor& g, int64_t channels, DType state_dtype, Device device,
            const SequenceLayout& layout);

  Tensor state_at_start(const Tensor& own_state) const;
  Tensor gradient_at_end(const Tensor& own_gradient) const;

 private:
  Tensor fold(const Tensor& own, int64_t first, int64_t count, int64_t step) const;

  std::shared_ptr<const SequencePart> part_;
  Tensor decay_;  // [slots, channels]
};

}  // namespace sluice::ops
