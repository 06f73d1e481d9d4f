#include "ops/log_decay_gate.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/linear_attention/log_decay_gate.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {

namespace {

Tensor forward(const Tensor& a, double normalizer, double lowest) {
  const Tensor g = Tensor::empty(a.shape(), a.dtype(), a.device());
  dispatch_floating(a.dtype(), "log_decay_gate", [&]<class T>() {
    kernels::LogDecayGateForward<T> p;
    p.rows = a.rows(), p.columns = a.size(-1);
    p.normalizer = normalizer, p.clamp_min = lowest;
    p.a = a.data<T>(), p.a_stride = a.row_stride();
    p.g = g.data<T>(), p.g_stride = g.row_stride();
    SLUICE_LAUNCH(T, a.device(), log_decay_gate_forward, p);
  });
  return g;
}

void backward(const Tensor& a, double normalizer, double lowest, const Tensor& dg, const GradientTarget& da) {
  dispatch_floating(a.dtype(), "log_decay_gate", [&]<class T>() {
    kernels::LogDecayGateBackward<T> p;
    p.rows = a.rows(), p.columns = a.size(-1);
    p.normalizer = normalizer, p.clamp_min = lowest;
    p.a = a.data<T>(), p.a_stride = a.row_stride();
    p.dg = dg.data<T>(), p.dg_stride = dg.row_stride();
    p.da = da.tensor.data<T>(), p.da_stride = da.tensor.row_stride(), p.accumulate_da = da.accumulate;
    SLUICE_LAUNCH(T, a.device(), log_decay_gate_backward, p);
  });
}

}  // namespace

Variable log_decay_gate(const Variable& a, double normalizer, std::optional<double> clamp_min) {
  SLUICE_CHECK(a.value().rank() >= 2, kInternal, "[log_decay_gate] expected a of shape [..., C], got {}",
               a.shape().to_string());
  SLUICE_CHECK(normalizer > 0, kInternal, "[log_decay_gate] expected a positive normalizer, got {}",
               normalizer);
  const double lowest = clamp_min.value_or(-std::numeric_limits<double>::infinity());
  const auto recipe = [a = a.value(), normalizer, lowest] { return forward(a, normalizer, lowest); };
  Variable g = Tape::record_one(
      "log_decay_gate", {a}, recipe(), [a = a.value(), normalizer, lowest](BackwardContext& context) {
        backward(a, normalizer, lowest, context.output_gradient(0), context.target(0));
      });
  if (SelectiveRecomputeScope::active()) g.set_recipe(recipe);
  return g;
}

}  // namespace sluice::ops
