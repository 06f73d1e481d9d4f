#include "ops/gated_head_norm.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/linear_attention/gated_head_norm.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

struct Saved {
  Tensor o, gate, weight, rstd;
  int64_t heads;
};

void check(const Variable& o, const Variable& gate, const Variable& weight, int64_t heads) {
  constexpr const char* op = "gated_head_norm";
  SLUICE_CHECK(o.value().rank() >= 2 && heads > 0 && o.size(-1) % heads == 0, kInternal,
               "[{}] expected o of shape [..., {} heads * D], got {}", op, heads, o.shape().to_string());
  if (gate.defined()) {
    require_like(op, "gate", gate.value(), o.value());
    require_shape(op, "gate", gate.value(), o.shape());
  }
  if (!weight.defined()) return;
  require_exact(op, "weight", weight.value(), o.value());
  require_shape(op, "weight", weight.value(), Shape{o.size(-1) / heads});
}

// Writes saved.rstd where it is defined.
Tensor forward(const Saved& saved, double eps) {
  const Tensor& o = saved.o;
  const Tensor y = Tensor::empty(o.shape(), o.dtype(), o.device());
  dispatch_floating(o.dtype(), "gated_head_norm", [&]<class T>() {
    kernels::GatedHeadNormForward<T> p;
    p.rows = o.rows(), p.heads = saved.heads, p.head_size = o.size(-1) / saved.heads, p.eps = eps;
    p.o = o.data<T>(), p.o_stride = o.row_stride();
    p.gate = data_or_null<T>(saved.gate), p.gate_stride = saved.gate.defined() ? saved.gate.row_stride() : 0;
    p.weight = data_or_null<kernels::accumulate_t<T>>(saved.weight);
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    p.rstd = data_or_null<kernels::accumulate_t<T>>(saved.rstd);
    SLUICE_LAUNCH(T, o.device(), gated_head_norm_forward, p);
  });
  return y;
}

void backward(const Saved& saved, BackwardContext& context) {
  const Tensor& dy = context.output_gradient(0);
  const GradientTarget d_o = context.needs(0) ? context.target(0) : GradientTarget{};
  const GradientTarget dgate = context.needs(1) ? context.target(1) : GradientTarget{};
  const Tensor dweight = context.sum_target(2);
  dispatch_floating(dy.dtype(), "gated_head_norm", [&]<class T>() {
    kernels::GatedHeadNormBackward<T> p;
    p.rows = saved.o.rows(), p.heads = saved.heads, p.head_size = saved.o.size(-1) / saved.heads;
    p.o = saved.o.data<T>(), p.o_stride = saved.o.row_stride();
    p.gate = data_or_null<T>(saved.gate), p.gate_stride = saved.gate.defined() ? saved.gate.row_stride() : 0;
    p.weight = data_or_null<kernels::accumulate_t<T>>(saved.weight);
    p.rstd = saved.rstd.data<kernels::accumulate_t<T>>();
    p.dy = dy.data<T>(), p.dy_stride = dy.row_stride();
    p.d_o = data_or_null<T>(d_o.tensor), p.d_o_stride = d_o.tensor.defined() ? d_o.tensor.row_stride() : 0;
    p.accumulate_d_o = d_o.accumulate;
    p.dgate = data_or_null<T>(dgate.tensor);
    p.dgate_stride = dgate.tensor.defined() ? dgate.tensor.row_stride() : 0;
    p.accumulate_dgate = dgate.accumulate;
    p.dweight = data_or_null<kernels::accumulate_t<T>>(dweight);
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), gated_head_norm_backward, p);
  });
}

}  // namespace

Variable gated_head_norm(const Variable& o, const Variable& gate, const Variable& weight, int64_t heads,
                         double eps) {
  check(o, gate, weight, heads);
  const bool recorded = Tape::would_record({o, gate, weight});
  const Tensor rstd =
      recorded ? Tensor::empty(Shape{o.value().rows(), heads}, accumulate_dtype(o.dtype()), o.device())
               : Tensor();
  const Saved saved{o.value(), gate.value(), weight.value(), rstd, heads};
  const auto recipe = [saved, eps] { return forward(saved, eps); };
  Variable y = Tape::record_one("gated_head_norm", {o, gate, weight}, recipe(),
                                [saved](BackwardContext& context) { backward(saved, context); });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

}  // namespace sluice::ops
