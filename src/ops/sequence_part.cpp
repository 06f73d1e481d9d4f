#include "ops/sequence_part.h"

#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/sequence_part/state_fold.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

constexpr const char* kOp = "inputs_before_part";

// Calls body(slot, first token, tokens, tokens missing to `reach`) for the end of each slot's row.
template <class Body>
void for_each_end(const SequenceLayout& layout, int64_t reach, const Body& body) {
  const SequenceIndices& indices = layout.indices();
  for (int64_t slot = 0; slot < layout.slots; ++slot) {
    const int64_t begin = indices.row_begin[slot], end = indices.row_end[slot];
    // A document that starts shortly before the part's end has nothing before it.
    const int64_t count = std::min(reach, end - begin);
    SLUICE_CHECK(count == reach || indices.row_passes[slot] == 0, kUsage,
                 "[{}] a part of {} tokens is shorter than the {} that the next one looks back; use longer "
                 "sequences or a smaller parallel.sequence",
                 kOp, end - begin, reach);
    if (count > 0) body(slot, end - count, count, reach - count);
  }
}

}  // namespace

Variable inputs_before_part(const Variable& x, int64_t reach, const SequenceLayout& layout) {
  const auto part = layout.part;
  SLUICE_ASSERT(part != nullptr);
  const Shape shape{layout.slots, reach, x.size(1)};
  const Tensor ends = Tensor::zeros(shape, x.dtype(), x.device());
  for_each_end(layout, reach, [&](int64_t slot, int64_t first, int64_t count, int64_t missing) {
    ends.narrow(0, slot, 1)
        .view({reach, x.size(1)})
        .narrow(0, missing, count)
        .copy_from(x.value().narrow(0, first, count));
  });
  const Tensor all = part->gather(ends);
  const Tensor before = part->index() > 0 ? all.narrow(0, part->index() - 1, 1).view(shape).clone()
                                          : Tensor::zeros(shape, x.dtype(), x.device());
  return Tape::record_one(kOp, {x}, before, [shape, layout, part](BackwardContext& context) {
    const int64_t reach = shape[1], channels = shape[2];
    const Tensor all = part->gather(context.output_gradient_or_zeros(0).contiguous());
    const Tensor dx = context.sum_target(0);
    if (!dx.defined() || part->index() + 1 == part->count()) return;
    const Tensor after = all.narrow(0, part->index() + 1, 1).view(shape);
    for_each_end(layout, reach, [&](int64_t slot, int64_t first, int64_t count, int64_t missing) {
      dx.narrow(0, first, count)
          .add_from(after.narrow(0, slot, 1).view({reach, channels}).narrow(0, missing, count));
    });
  });
}

StateFold::StateFold(const Tensor& g, int64_t channels, DType state_dtype, Device device,
                     const SequenceLayout& layout)
    : part_(layout.part), decay_(Tensor::empty({layout.slots, channels}, state_dtype, device)) {
  SLUICE_ASSERT(part_ != nullptr);
  const SequenceIndices& indices = layout.indices();
  dispatch_floating(g.defined() ? g.dtype() : state_dtype, "part_decay", [&]<class T>() {
    kernels::PartDecayParams<T> p;
    p.slots = layout.slots, p.channels = channels;
    p.longest = layout.longest();
    p.g = data_or_null<T>(g), p.g_stride = g.defined() && g.size(0) > 1 ? g.row_stride() : 0;
    p.begin = indices.row_begin.on(device), p.end = indices.row_end.on(device);
    p.passes = indices.row_passes.on(device);
    p.decay = decay_.data<kernels::accumulate_t<T>>();
    Tensor sums;
    if constexpr (kRunsOnCuda<T>) {
      if (device == Device::kCuda) {
        sums = Tensor::empty({kernels::cuda::part_decay_sums(p)}, state_dtype, device);
        p.sums = sums.data<kernels::accumulate_t<T>>();
      }
    }
    SLUICE_LAUNCH(T, device, part_decay, p);
  });
}

Tensor StateFold::state_at_start(const Tensor& own_state) const {
  return fold(own_state, 0, part_->index(), 1);
}

Tensor StateFold::gradient_at_end(const Tensor& own_gradient) const {
  return fold(own_gradient, part_->count() - 1, part_->count() - 1 - part_->index(), -1);
}

Tensor StateFold::fold(const Tensor& own, int64_t first, int64_t count, int64_t step) const {
  // States and decays travel together.
  const int64_t states = own.numel(), decays = decay_.numel();
  const Tensor mine = Tensor::empty({states + decays}, own.dtype(), own.device());
  mine.narrow(0, 0, states).copy_from(own.contiguous().view({states}));
  mine.narrow(0, states, decays).copy_from(decay_.view({decays}));
  const Tensor all = part_->gather(mine);
  const Tensor folded = Tensor::empty(own.shape(), own.dtype(), own.device());
  dispatch_floating(own.dtype(), "state_fold", [&]<class T>() {
    if constexpr (!std::is_same_v<T, bfloat16>) {
      kernels::StateFoldParams<T> p;
      p.rows = decays, p.columns = states / decays;
      p.part_stride = states + decays;
      p.states = all.data<T>(), p.decays = all.data<T>() + states;
      p.first = first, p.count = count, p.step = step;
      p.folded = folded.data<T>();
      SLUICE_LAUNCH(T, own.device(), state_fold, p);
    }
  });
  return folded;
}

}  // namespace sluice::ops
