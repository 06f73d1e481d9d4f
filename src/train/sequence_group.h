// The ranks that share each sequence: neighbours, of which the first has the beginning.
#pragma once

#include "dist/communicator.h"
#include "ops/sequence_part.h"

namespace sluice {

class SequenceGroup final : public ops::SequencePart {
 public:
  // The group of this rank, of `count` ranks.
  SequenceGroup(Communicator& communicator, int count)
      : SequencePart(communicator.rank() % count, count), communicator_(communicator) {}

  Tensor gather(const Tensor& mine) const override {
    const Tensor all = Tensor::empty({count(), mine.numel()}, mine.dtype(), mine.device());
    communicator_.start_gather_among(communicator_.rank() - index(), count(), mine, all);
    communicator_.wait();
    return all;
  }
  Tensor exchange(const Tensor& mine) const override {
    const Tensor theirs = Tensor::empty(mine.shape(), mine.dtype(), mine.device());
    communicator_.start_exchange_among(communicator_.rank() - index(), count(), mine, theirs);
    communicator_.wait();
    return theirs;
  }

 private:
  Communicator& communicator_;
};

}  // namespace sluice
