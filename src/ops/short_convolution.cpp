#include "ops/short_convolution.h"

#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/conv/short_convolution.h"
#include "ops/check.h"
#include "ops/sequence_part.h"
#include "ops/state_slots.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

constexpr const char* kOp = "short_convolution";

struct Saved {
  SequenceLayout layout;
  Tensor x, weight, initial_state;
  bool silu;
};

template <class T, class Params>
void fill(Params& p, const SequenceLayout& layout, const Tensor& x, const Tensor& weight,
          const Tensor& initial_state, bool silu) {
  p.tokens = x.size(0), p.sequences = layout.sequences();
  p.channels = weight.size(0), p.width = weight.size(1);
  p.silu = silu;
  p.x = x.data<T>(), p.x_stride = x.row_stride();
  p.weight = weight.data<kernels::accumulate_t<T>>();
  const SequenceIndices& indices = layout.indices();
  p.offsets = indices.offsets.on(x.device());
  p.state_in = indices.state_in.on(x.device()), p.state_out = indices.state_out.on(x.device());
  p.slots = layout.slots;
  p.initial_state = data_or_null<T>(initial_state);
}

void backward(const Saved& saved, BackwardContext& context) {
  const Tensor& dy = context.output_gradient(0);
  const Tensor d_final =
      context.output_gradient(1).defined() ? context.output_gradient(1).contiguous() : Tensor();
  const GradientTarget dx = context.needs(0) ? context.target(0) : GradientTarget{};
  const Tensor dweight = context.sum_target(1);
  const auto fresh = [&](const Shape& shape) {
    return Tensor::empty(shape, saved.x.dtype(), saved.x.device());
  };
  const Tensor du = dy.defined() ? fresh(saved.x.shape()) : Tensor();
  Tensor d_initial;
  if (context.needs(2)) d_initial = fresh(saved.initial_state.shape());
  dispatch_floating(saved.x.dtype(), kOp, [&]<class T>() {
    kernels::ShortConvolutionBackward<T> p;
    fill<T>(p, saved.layout, saved.x, saved.weight, saved.initial_state, saved.silu);
    p.dy = data_or_null<T>(dy), p.dy_stride = dy.defined() ? dy.row_stride() : 0;
    p.du = data_or_null<T>(du);
    p.dx = data_or_null<T>(dx.tensor), p.dx_stride = dx.tensor.defined() ? dx.tensor.row_stride() : 0;
    p.accumulate_dx = dx.accumulate;
    p.dweight = data_or_null<kernels::accumulate_t<T>>(dweight);
    p.d_final_state = data_or_null<T>(d_final);
    p.d_initial_state = data_or_null<T>(d_initial);
    SLUICE_LAUNCH_WITH_SCRATCH(T, saved.x.device(), short_convolution_backward, p);
  });
  if (d_initial.defined()) context.add(2, d_initial);
}

}  // namespace

ShortConvolutionResult short_convolution(const Variable& x, const Variable& weight,
                                         const Variable& initial_state, const SequenceLayout& layout,
                                         bool want_final_state, bool silu) {
  require_rank(kOp, "weight", weight.value(), 2);
  if (layout.part != nullptr && !initial_state.defined()) {
    return short_convolution(x, weight, inputs_before_part(x, weight.size(1) - 1, layout), layout,
                             want_final_state, silu);
  }
  const int64_t channels = weight.size(0), width = weight.size(1);
  SLUICE_CHECK(x.value().rank() == 2 && x.size(1) == channels, kInternal,
               "[{}] expected x of shape [N, {}], got {}", kOp, channels, x.shape().to_string());
  SLUICE_CHECK(width > 0 && weight.value().is_contiguous(), kInternal,
               "[{}] expected dense weight of shape [C, W] with W of at least 1, got {}", kOp,
               weight.shape().to_string());
  require_exact(kOp, "weight", weight.value(), x.value());
  layout.validate(x.size(0));
  const Shape state_shape{layout.slots, width - 1, channels};
  require_state(kOp, initial_state, state_shape, x.dtype());
  const Tensor start = initial_state.defined() ? initial_state.value().contiguous() : Tensor();
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor final_state = want_final_state ? Tensor::empty(state_shape, x.dtype(), x.device()) : Tensor();
  dispatch_floating(x.dtype(), kOp, [&]<class T>() {
    kernels::ShortConvolutionForward<T> p;
    fill<T>(p, layout, x.value(), weight.value(), start, silu);
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    p.final_state = data_or_null<T>(final_state);
    SLUICE_LAUNCH(T, x.device(), short_convolution_forward, p);
  });
  if (!Tape::would_record({x, weight, initial_state})) return {Variable(y), Variable(final_state)};
  const auto results = Tape::record(kOp, {x, weight, initial_state}, {y, final_state},
                                    [saved = Saved{layout, x.value(), weight.value(), start, silu}](
                                        BackwardContext& context) { backward(saved, context); });
  return {results[0], results[1]};
}

}  // namespace sluice::ops
