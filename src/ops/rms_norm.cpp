#include "ops/rms_norm.h"

#include "autograd/saved_tensor.h"
#include "kernels/norm/rms_norm.h"
#include "ops/check.h"
#include "ops/dispatch_accumulate.h"
#include "ops/rms_norm_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {

void check_norm(const char* op, const Tensor& h, const Tensor& weight, DType compute) {
  SLUICE_CHECK(h.rank() >= 2, kInternal, "[{}] expected x of shape [..., C], got {}", op,
               h.shape().to_string());
  if (!weight.defined()) return;
  require_dtype(op, "weight", weight, accumulate_dtype(compute));
  require_shape(op, "weight", weight, Shape{h.size(-1)});
}

void normalise(const Tensor& h, const Tensor& weight, double eps, const Tensor& y, const Tensor& rstd) {
  dispatch_floating(y.dtype(), "rms_norm", [&]<class T>() {
    dispatch_accumulate<T>(h.dtype(), [&]<class H>() {
      kernels::RmsNormForward<T, H> p;
      p.rows = h.rows(), p.columns = h.size(-1), p.eps = eps;
      p.h = h.data<H>(), p.h_stride = h.row_stride();
      p.weight = data_or_null<kernels::accumulate_t<T>>(weight), p.y = y.data<T>();
      p.rstd = data_or_null<kernels::accumulate_t<T>>(rstd);
      SLUICE_LAUNCH(T, h.device(), rms_norm_forward, p);
    });
  });
}

Recipe normalise_recipe(const Tensor& h, const Tensor& weight, double eps, DType compute,
                        const Tensor& rstd) {
  return [h, weight, eps, compute, rstd] {
    const Tensor y = Tensor::empty(h.shape(), compute, h.device());
    normalise(h, weight, eps, y, rstd);
    return y;
  };
}

Tensor rstd_for(const Tensor& h, bool recorded) {
  return recorded ? Tensor::empty(Shape{h.rows()}, accumulate_dtype(h.dtype()), h.device()) : Tensor();
}

void norm_gradients(DType compute, const Tensor& h, const Tensor& weight, const Tensor& rstd,
                    const Tensor& dy, const Tensor& dresidual, const NormGradients& out) {
  dispatch_floating(compute, "rms_norm", [&]<class T>() {
    dispatch_accumulate<T>(h.dtype(), [&]<class H>() {
      kernels::RmsNormBackward<T, H> p;
      p.rows = h.rows(), p.columns = h.size(-1);
      p.h = h.data<H>(), p.h_stride = h.row_stride();
      p.weight = data_or_null<kernels::accumulate_t<T>>(weight);
      p.rstd = rstd.data<kernels::accumulate_t<T>>();
      p.dy = data_or_null<T>(dy), p.dy_stride = dy.defined() ? dy.row_stride() : 0;
      p.dresidual = data_or_null<kernels::accumulate_t<T>>(dresidual);
      p.dh = data_or_null<H>(out.dh.tensor);
      p.dh_stride = out.dh.tensor.defined() ? out.dh.tensor.row_stride() : 0;
      p.accumulate_dh = out.dh.accumulate;
      p.rounded = data_or_null<T>(out.rounded);
      p.dweight = data_or_null<kernels::accumulate_t<T>>(out.dweight);
      SLUICE_LAUNCH_WITH_SCRATCH(T, h.device(), rms_norm_backward, p);
    });
  });
}

Variable rms_norm(const Variable& x, const Variable& weight, double eps, std::optional<DType> compute) {
  const DType dtype = compute.value_or(x.dtype());
  check_norm("rms_norm", x.value(), weight.value(), dtype);
  const Tensor rstd = rstd_for(x.value(), Tape::would_record({x, weight}));
  const auto recipe = normalise_recipe(x.value(), weight.value(), eps, dtype, rstd);
  Variable y =
      Tape::record_one("rms_norm", {x, weight}, recipe(),
                       [x = x.value(), weight = weight.value(), rstd, dtype](BackwardContext& context) {
                         NormGradients out;
                         if (context.needs(0)) out.dh = context.target(0);
                         out.dweight = context.sum_target(1);
                         norm_gradients(dtype, x, weight, rstd, context.output_gradient(0), Tensor(), out);
                       });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

}  // namespace sluice::ops
