#include "ops/residual.h"

#include "autograd/saved_tensor.h"
#include "ops/check.h"
#include "ops/gated_activation_parts.h"
#include "ops/linear_parts.h"
#include "ops/rms_norm_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

Tensor value_of(const char* op, const ProductInput& x) {
  if (!x.gate) return x.tensor.value();
  check_gate_up(op, x.tensor.value());
  return activate_gated(x.tensor.value(), *x.gate);
}

// stream + x W^T
Tensor sum_of(const char* op, const Variable& stream, const Tensor& x, const Tensor& weight) {
  const LinearSizes sizes = linear_sizes(op, x, weight);
  const DType dtype = accumulate_dtype(x.dtype());
  require_shape(op, "stream", stream.value(), Shape{sizes.rows, sizes.out});
  SLUICE_CHECK(stream.dtype() == x.dtype() || stream.dtype() == dtype, kInternal,
               "[{}] expected a stream of {} or {}, got {}", op, name_of(x.dtype()), name_of(dtype),
               name_of(stream.dtype()));
  const Tensor hidden = Tensor::empty(stream.shape(), dtype, x.device());
  multiply_linear(x, weight, {Tensor(), stream.value().to(dtype).contiguous()}, hidden);
  return hidden;
}

// What backward of a product reads, and the gradients of inputs 1 and 2: x or gate_up, and weight.
class ProductGradients {
 public:
  ProductGradients(const ProductInput& input, const Tensor& x, const Variable& weight)
      : weight_(weight.value()), gate_(input.gate) {
    if (!gate_) {
      x_ = SavedTensor(input.tensor);
      return;
    }
    gate_up_ = input.tensor.value();
    if (!SelectiveRecomputeScope::active()) x_ = SavedTensor(Variable(x));
  }

  // d_sum: the sum's, in x's dtype.
  void operator()(BackwardContext& context, const Tensor& d_sum) const {
    if (!gate_) {
      if (context.needs(1)) linear_input_gradient(d_sum, weight_, context.target(1));
      if (context.needs(2)) linear_weight_gradient(d_sum, x_.get(), context.target(2));
      return;
    }
    Tensor x = x_.get();
    if (context.needs(1)) {
      const Tensor dx = Tensor::empty(Shape{d_sum.rows(), weight_.size(1)}, d_sum.dtype(), d_sum.device());
      linear_input_gradient(d_sum, weight_, {dx, false});
      const bool makes_x = context.needs(2) && !x.defined();
      gated_activation_gradient(gate_up_, *gate_, dx, context.target(1), makes_x ? dx : Tensor());
      if (makes_x) x = dx;
    }
    if (!context.needs(2)) return;
    linear_weight_gradient(d_sum, x.defined() ? x : activate_gated(gate_up_, *gate_), context.target(2));
  }

 private:
  Tensor weight_, gate_up_;
  std::optional<Activation> gate_;
  SavedTensor x_;  // nothing where it is made from gate_up
};

}  // namespace

Variable linear_add(const Variable& stream, const ProductInput& x, const Variable& weight) {
  const Tensor value = value_of("linear_add", x);
  const Tensor hidden = sum_of("linear_add", stream, value, weight.value());
  return Tape::record_one("linear_add", {stream, x.tensor, weight}, hidden,
                          [compute = x.tensor.dtype(), stream_dtype = stream.dtype(),
                           gradients = ProductGradients(x, value, weight)](BackwardContext& context) {
                            const Tensor dh = context.output_gradient(0).contiguous();
                            const Tensor rounded = dh.to(compute);
                            context.add(0, stream_dtype == compute ? rounded : dh);
                            gradients(context, rounded);
                          });
}

ResidualNorm linear_add_rms_norm(const Variable& stream, const ProductInput& x, const Variable& weight,
                                 const Variable& norm_weight, double eps) {
  const DType compute = x.tensor.dtype();
  const Tensor value = value_of("linear_add_rms_norm", x);
  const Tensor h = sum_of("linear_add_rms_norm", stream, value, weight.value());
  check_norm("linear_add_rms_norm", h, norm_weight.value(), compute);
  const Tensor rstd = rstd_for(h, Tape::would_record({stream, x.tensor, weight, norm_weight}));
  const auto recipe = normalise_recipe(h, norm_weight.value(), eps, compute, rstd);
  auto outputs =
      Tape::record("linear_add_rms_norm", {stream, x.tensor, weight, norm_weight}, {h, recipe()},
                   [h, rstd, compute, stream_dtype = stream.dtype(), norm_weight = norm_weight.value(),
                    gradients = ProductGradients(x, value, weight)](BackwardContext& context) {
                     // The stream takes the gradient of the sum as it is, the product takes it rounded.
                     NormGradients out;
                     if (stream_dtype == h.dtype())
                       out.dh.tensor = Tensor::empty(h.shape(), h.dtype(), h.device());
                     if (compute != h.dtype()) out.rounded = Tensor::empty(h.shape(), compute, h.device());
                     out.dweight = context.sum_target(3);
                     const Tensor& dresidual = context.output_gradient(0);
                     norm_gradients(compute, h, norm_weight, rstd, context.output_gradient(1),
                                    dresidual.defined() ? dresidual.contiguous() : Tensor(), out);
                     context.add(0, out.dh.tensor.defined() ? out.dh.tensor : out.rounded);
                     gradients(context, out.rounded.defined() ? out.rounded : out.dh.tensor);
                   });
  if (SelectiveRecomputeScope::active()) outputs[1].set_recipe(recipe);
  return {outputs[0], outputs[1]};
}

}  // namespace sluice::ops
