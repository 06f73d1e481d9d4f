#include "ops/earlier_rows.h"

#include <algorithm>

#include "autograd/tape.h"
#include "core/error.h"
#include "ops/sequence_layout_derived.h"
#include "ops/sequence_part.h"
#include "tensor/launch.h"

namespace sluice::ops {

EarlierRows::EarlierRows(const SequenceLayout& layout, int64_t window)
    : part_(layout.part), slots_(layout.slots), length_(layout.tokens() / std::max<int64_t>(1, slots_)) {
  SLUICE_ASSERT(part_ != nullptr && static_cast<int64_t>(layout.before.size()) == slots_ &&
                slots_ * length_ == layout.tokens());
  const int64_t reach = window > 0 ? window - 1 : part_->count() * length_;
  sent_ = std::min(reach, length_);
  std::vector<int64_t> offsets = {0};
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    const int64_t slot = layout.state_in[s], end = part_->index() * length_;
    int64_t to = offsets.back();
    // Rows of the slot, counted over all parts.
    int64_t at = slot >= 0 ? end - std::min(reach, layout.before[slot]) : end;
    while (at < end) {
      const int64_t owner = at / length_, stop = (owner + 1) * length_;
      earlier_.push_back({(owner * slots_ + slot + 1) * sent_ - (stop - at), to, stop - at});
      to += stop - at;
      at = stop;
    }
    const int64_t count = layout.offsets[s + 1] - layout.offsets[s];
    own_.push_back({layout.offsets[s], to, count});
    offsets.push_back(to + count);
  }
  offsets_ = std::move(offsets);
}

Variable EarlierRows::join(const Variable& x) const {
  const Tensor joined = Tensor::empty({offsets_.host().back(), x.size(1)}, x.dtype(), x.device());
  const Tensor all = gather_ends(x.value());
  for (const Piece& piece : earlier_) {
    joined.narrow(0, piece.to, piece.count).copy_from(all.narrow(0, piece.from, piece.count));
  }
  for (const Piece& piece : own_)
    joined.narrow(0, piece.to, piece.count).copy_from(x.value().narrow(0, piece.from, piece.count));
  return Tape::record_one("earlier_rows", {x}, joined, [rows = *this](BackwardContext& context) {
    context.add(0, rows.gradient(context.output_gradient_or_zeros(0)));
  });
}

// The ends of all parts' slots, [parts * slots * sent, C].
Tensor EarlierRows::gather_ends(const Tensor& x) const {
  const int64_t channels = x.size(1);
  const Tensor ends = Tensor::empty({slots_ * sent_, channels}, x.dtype(), x.device());
  for (int64_t slot = 0; slot < slots_; ++slot) {
    ends.narrow(0, slot * sent_, sent_).copy_from(x.narrow(0, (slot + 1) * length_ - sent_, sent_));
  }
  return part_->gather(ends).view({part_->count() * slots_ * sent_, channels});
}

Tensor EarlierRows::gradient(const Tensor& d_joined) const {
  const int64_t channels = d_joined.size(1), of_part = slots_ * sent_;
  const Tensor theirs =
      Tensor::zeros({part_->count() * of_part, channels}, d_joined.dtype(), d_joined.device());
  for (const Piece& piece : earlier_) {
    theirs.narrow(0, piece.from, piece.count).copy_from(d_joined.narrow(0, piece.to, piece.count));
  }
  const Tensor mine = part_->exchange(theirs.view({part_->count(), of_part * channels})).view(theirs.shape());
  const DType sum_dtype = accumulate_dtype(d_joined.dtype());
  const Tensor sum = Tensor::empty({slots_ * length_, channels}, sum_dtype, d_joined.device());
  for (const Piece& piece : own_) {
    sum.narrow(0, piece.from, piece.count).copy_from(d_joined.narrow(0, piece.to, piece.count).to(sum_dtype));
  }
  for (int later = part_->index() + 1; later < part_->count(); ++later) {
    const Tensor terms = mine.narrow(0, later * of_part, of_part).to(sum_dtype);
    for (int64_t slot = 0; slot < slots_; ++slot) {
      sum.narrow(0, (slot + 1) * length_ - sent_, sent_).add_from(terms.narrow(0, slot * sent_, sent_));
    }
  }
  return sum.to(d_joined.dtype());
}

const EarlierRows& earlier_rows_of(const SequenceLayout& layout, int64_t window) {
  layout.indices();
  SequenceLayout::Derived& derived = *layout.derived;
  if (!derived.earlier || derived.earlier_window != window) {
    derived.earlier.emplace(layout, window);
    derived.earlier_window = window;
  }
  return *derived.earlier;
}

}  // namespace sluice::ops
