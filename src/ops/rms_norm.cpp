#include "ops/rms_norm.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "kernels/norm/rms_norm.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

// Calls body.operator()<X>() with the element type of a tensor that is T or a residual stream.
template <class T, class Body>
void dispatch_stream(DType dtype, Body&& body) {
  if (dtype == dtype_of<T>()) {
    body.template operator()<T>();
  } else {
    body.template operator()<kernels::accumulate_t<T>>();
  }
}

void forward(const Tensor& x, const Tensor& delta, const Tensor& weight, double eps, const Tensor& h,
             const Tensor& y, const Tensor& rstd) {
  dispatch_floating(y.dtype(), "rms_norm", [&]<class T>() {
    dispatch_stream<T>(x.dtype(), [&]<class X>() {
      kernels::RmsNormForward<T, X> p;
      p.rows = x.rows(), p.columns = x.size(-1), p.eps = eps;
      p.x = x.data<X>(), p.x_stride = x.row_stride();
      p.delta = data_or_null<T>(delta), p.weight = data_or_null<T>(weight);
      p.h = data_or_null<kernels::accumulate_t<T>>(h), p.y = y.data<T>();
      p.rstd = data_or_null<kernels::accumulate_t<T>>(rstd);
      SLUICE_LAUNCH(T, x.device(), rms_norm_forward, p);
    });
  });
}

// What backward of a norm of h writes; what is undefined is not wanted.
struct Gradients {
  GradientTarget dh;
  Tensor ddelta;   // dh in the compute dtype
  Tensor dweight;  // added to
};

void backward(DType compute, const Tensor& h, const Tensor& weight, const Tensor& rstd, const Tensor& dy,
              const Tensor& dresidual, const Gradients& out) {
  dispatch_floating(compute, "rms_norm", [&]<class T>() {
    dispatch_stream<T>(h.dtype(), [&]<class H>() {
      kernels::RmsNormBackward<T, H> p;
      p.rows = h.rows(), p.columns = h.size(-1);
      p.h = h.data<H>(), p.h_stride = h.row_stride();
      p.weight = data_or_null<T>(weight), p.rstd = rstd.data<kernels::accumulate_t<T>>();
      p.dy = data_or_null<T>(dy), p.dy_stride = dy.defined() ? dy.row_stride() : 0;
      p.dresidual = data_or_null<kernels::accumulate_t<T>>(dresidual);
      p.dh = data_or_null<H>(out.dh.tensor);
      p.dh_stride = out.dh.tensor.defined() ? out.dh.tensor.row_stride() : 0;
      p.accumulate_dh = out.dh.accumulate;
      p.ddelta = data_or_null<T>(out.ddelta);
      p.dweight = data_or_null<kernels::accumulate_t<T>>(out.dweight);
      SLUICE_LAUNCH_WITH_SCRATCH(T, h.device(), rms_norm_backward, p);
    });
  });
}

// The weight's gradient is always added to, so a fresh target starts at zero.
Tensor zeroed_target(BackwardContext& context, int input) {
  if (!context.needs(input)) return Tensor();
  const GradientTarget target = context.target(input);
  if (!target.accumulate) target.tensor.fill_zero();
  return target.tensor;
}

void check(const char* op, const Variable& x, const Variable& weight, const Tensor& reference) {
  SLUICE_CHECK(x.value().rank() >= 2, kInternal, "[{}] expected x of shape [..., C], got {}", op,
               x.shape().to_string());
  if (!weight.defined()) return;
  require_like(op, "weight", weight.value(), reference);
  require_shape(op, "weight", weight.value(), Shape{x.size(-1)});
}

Tensor rstd_for(const Variable& x, bool recorded) {
  return recorded ? Tensor::empty(Shape{x.value().rows()}, accumulate_dtype(x.dtype()), x.device())
                  : Tensor();
}

// Makes the normalised rows of h in the compute dtype, and their rstd.
Recipe normalise_again(DType compute, const Tensor& h, const Tensor& weight, double eps, const Tensor& rstd) {
  return [compute, h, weight, eps, rstd] {
    const Tensor y = Tensor::empty(h.shape(), compute, h.device());
    forward(h, Tensor(), weight, eps, Tensor(), y, rstd);
    return y;
  };
}

}  // namespace

Variable rms_norm(const Variable& x, const Variable& weight, double eps) {
  check("rms_norm", x, weight, x.value());
  const Tensor rstd = rstd_for(x, Tape::would_record({x, weight}));
  const auto recipe = normalise_again(x.dtype(), x.value(), weight.value(), eps, rstd);
  Variable y =
      Tape::record_one("rms_norm", {x, weight}, recipe(),
                       [x = x.value(), weight = weight.value(), rstd](BackwardContext& context) {
                         Gradients out;
                         if (context.needs(0)) out.dh = context.target(0);
                         out.dweight = zeroed_target(context, 1);
                         backward(x.dtype(), x, weight, rstd, context.output_gradient(0), Tensor(), out);
                       });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

ResidualNorm add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps) {
  check("add_rms_norm", x, weight, delta.value());
  const DType compute = delta.dtype(), stream = accumulate_dtype(compute);
  SLUICE_CHECK(x.dtype() == compute || x.dtype() == stream, kInternal,
               "[add_rms_norm] expected x of {} or {}, got {}", name_of(compute), name_of(stream),
               name_of(x.dtype()));
  require_shape("add_rms_norm", "delta", delta.value(), x.shape());
  const Tensor h = Tensor::empty(x.shape(), stream, x.device());
  const Tensor y = Tensor::empty(x.shape(), compute, x.device());
  const Tensor rstd = rstd_for(x, Tape::would_record({x, delta, weight}));
  forward(x.value(), delta.value().contiguous(), weight.value(), eps, h, y, rstd);
  auto outputs = Tape::record(
      "add_rms_norm", {x, delta, weight}, {h, y},
      [h, compute, same = x.dtype() == stream, weight = weight.value(), rstd](BackwardContext& context) {
        const Tensor& dresidual = context.output_gradient(0);
        // x and delta share one gradient, their sum's; in two dtypes where theirs differ.
        Gradients out;
        if (same) out.dh.tensor = Tensor::empty(h.shape(), h.dtype(), h.device());
        if (h.dtype() != compute) out.ddelta = Tensor::empty(h.shape(), compute, h.device());
        out.dweight = zeroed_target(context, 2);
        backward(compute, h, weight, rstd, context.output_gradient(1),
                 dresidual.defined() ? dresidual.contiguous() : Tensor(), out);
        context.add(0, same ? out.dh.tensor : out.ddelta);
        context.add(1, out.ddelta.defined() ? out.ddelta : out.dh.tensor);
      });
  if (SelectiveRecomputeScope::active()) {
    outputs[1].set_recipe(normalise_again(compute, h, weight.value(), eps, rstd));
  }
  return {outputs[0], outputs[1]};
}

}  // namespace sluice::ops
