#include "ops/gated_activation.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/activation/gated_activation.h"
#include "ops/gated_activation_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {

void check_gate_up(const char* op, const Tensor& gate_up) {
  SLUICE_CHECK(gate_up.rank() >= 2 && gate_up.size(-1) % 2 == 0, kInternal,
               "[{}] expected gate_up of shape [..., 2 I], got {}", op, gate_up.shape().to_string());
}

Tensor activate_gated(const Tensor& gate_up, Activation function) {
  Shape shape = gate_up.shape();
  shape.set(-1, gate_up.size(-1) / 2);
  const Tensor y = Tensor::empty(shape, gate_up.dtype(), gate_up.device());
  dispatch_floating(gate_up.dtype(), "gated_activation", [&]<class T>() {
    kernels::GatedActivationForward<T> p;
    p.rows = y.rows(), p.columns = y.size(-1);
    p.activation = function;
    p.gate_up = gate_up.data<T>(), p.gate_up_stride = gate_up.row_stride();
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    SLUICE_LAUNCH(T, gate_up.device(), gated_activation_forward, p);
  });
  return y;
}

void gated_activation_gradient(const Tensor& gate_up, Activation function, const Tensor& dy,
                               const GradientTarget& dgate_up, const Tensor& y) {
  dispatch_floating(gate_up.dtype(), "gated_activation", [&]<class T>() {
    kernels::GatedActivationBackward<T> p;
    p.rows = dy.rows(), p.columns = dy.size(-1);
    p.activation = function;
    p.gate_up = gate_up.data<T>(), p.gate_up_stride = gate_up.row_stride();
    p.dy = dy.data<T>(), p.dy_stride = dy.row_stride();
    p.dgate_up = dgate_up.tensor.data<T>(), p.dgate_up_stride = dgate_up.tensor.row_stride();
    p.accumulate = dgate_up.accumulate;
    if (y.defined()) p.y = y.data<T>(), p.y_stride = y.row_stride();
    SLUICE_LAUNCH(T, gate_up.device(), gated_activation_backward, p);
  });
}

Variable gated_activation(const Variable& gate_up, Activation function) {
  check_gate_up("gated_activation", gate_up.value());
  const auto recipe = [gate_up = gate_up.value(), function] { return activate_gated(gate_up, function); };
  Variable y = Tape::record_one("gated_activation", {gate_up}, recipe(),
                                [gate_up = gate_up.value(), function](BackwardContext& context) {
                                  gated_activation_gradient(gate_up, function, context.output_gradient(0),
                                                            context.target(0));
                                });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

Variable swiglu(const Variable& gate_up) { return gated_activation(gate_up, Activation::kSilu); }

}  // namespace sluice::ops
