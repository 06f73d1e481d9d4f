#include "ops/rms_norm.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "kernels/norm/rms_norm.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

void forward(const Tensor& x, const Tensor& delta, const Tensor& weight, double eps, const Tensor& h,
             const Tensor& y, const Tensor& rstd) {
  dispatch_floating(x.dtype(), "rms_norm", [&]<class T>() {
    kernels::RmsNormForward<T> p;
    p.rows = x.rows(), p.columns = x.size(-1), p.eps = eps;
    p.x = x.data<T>(), p.x_stride = x.row_stride();
    p.delta = data_or_null<T>(delta), p.weight = data_or_null<T>(weight);
    p.h = data_or_null<T>(h), p.y = y.data<T>(), p.rstd = data_or_null<kernels::accumulate_t<T>>(rstd);
    SLUICE_LAUNCH(T, x.device(), rms_norm_forward, p);
  });
}

// dh is undefined when only the weight's gradient is wanted, dweight when the weight needs none.
void backward(const Tensor& h, const Tensor& weight, const Tensor& rstd, const Tensor& dy,
              const Tensor& dresidual, const GradientTarget& dh, const Tensor& dweight) {
  dispatch_floating(h.dtype(), "rms_norm", [&]<class T>() {
    kernels::RmsNormBackward<T> p;
    p.rows = h.rows(), p.columns = h.size(-1);
    p.h = h.data<T>(), p.h_stride = h.row_stride();
    p.weight = data_or_null<T>(weight), p.rstd = rstd.data<kernels::accumulate_t<T>>();
    p.dy = data_or_null<T>(dy), p.dy_stride = dy.defined() ? dy.row_stride() : 0;
    p.dresidual = data_or_null<T>(dresidual);
    p.dh = data_or_null<T>(dh.tensor), p.dh_stride = dh.tensor.defined() ? dh.tensor.row_stride() : 0;
    p.accumulate_dh = dh.accumulate;
    p.dweight = data_or_null<kernels::accumulate_t<T>>(dweight);
    SLUICE_LAUNCH_WITH_SCRATCH(T, h.device(), rms_norm_backward, p);
  });
}

// The weight's gradient is always added to, so a fresh target starts at zero.
Tensor zeroed_target(BackwardContext& context, int input) {
  if (!context.needs(input)) return Tensor();
  const GradientTarget target = context.target(input);
  if (!target.accumulate) target.tensor.fill_zero();
  return target.tensor;
}

void check(const char* op, const Variable& x, const Variable& weight) {
  SLUICE_CHECK(x.value().rank() >= 2, kInternal, "[{}] expected x of shape [..., C], got {}", op,
               x.shape().to_string());
  if (!weight.defined()) return;
  require_like(op, "weight", weight.value(), x.value());
  require_shape(op, "weight", weight.value(), Shape{x.size(-1)});
}

Tensor rstd_for(const Variable& x, bool recorded) {
  return recorded ? Tensor::empty(Shape{x.value().rows()}, accumulate_dtype(x.dtype()), x.device())
                  : Tensor();
}

// Makes the normalised rows of h, and their rstd.
Recipe normalise_again(const Tensor& h, const Tensor& weight, double eps, const Tensor& rstd) {
  return [h, weight, eps, rstd] {
    const Tensor y = Tensor::empty(h.shape(), h.dtype(), h.device());
    forward(h, Tensor(), weight, eps, Tensor(), y, rstd);
    return y;
  };
}

}  // namespace

Variable rms_norm(const Variable& x, const Variable& weight, double eps) {
  check("rms_norm", x, weight);
  const Tensor rstd = rstd_for(x, Tape::would_record({x, weight}));
  const auto recipe = normalise_again(x.value(), weight.value(), eps, rstd);
  Variable y = Tape::record_one(
      "rms_norm", {x, weight}, recipe(),
      [x = x.value(), weight = weight.value(), rstd](BackwardContext& context) {
        const GradientTarget dx = context.needs(0) ? context.target(0) : GradientTarget{};
        backward(x, weight, rstd, context.output_gradient(0), Tensor(), dx, zeroed_target(context, 1));
      });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

ResidualNorm add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps) {
  check("add_rms_norm", x, weight);
  require_like("add_rms_norm", "delta", delta.value(), x.value());
  require_shape("add_rms_norm", "delta", delta.value(), x.shape());
  const Tensor h = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor rstd = rstd_for(x, Tape::would_record({x, delta, weight}));
  forward(x.value(), delta.value().contiguous(), weight.value(), eps, h, y, rstd);
  auto outputs =
      Tape::record("add_rms_norm", {x, delta, weight}, {h, y},
                   [h, weight = weight.value(), rstd](BackwardContext& context) {
                     const Tensor& dresidual = context.output_gradient(0);
                     const Tensor& dy = context.output_gradient(1);
                     // x and delta share one gradient: their sum's.
                     const Tensor dh = Tensor::empty(h.shape(), h.dtype(), h.device());
                     backward(h, weight, rstd, dy, dresidual.defined() ? dresidual.contiguous() : Tensor(),
                              {dh, false}, zeroed_target(context, 2));
                     context.add(0, dh);
                     context.add(1, dh);
                   });
  if (SelectiveRecomputeScope::active()) {
    outputs[1].set_recipe(normalise_again(h, weight.value(), eps, rstd));
  }
  return {outputs[0], outputs[1]};
}

}  // namespace sluice::ops
