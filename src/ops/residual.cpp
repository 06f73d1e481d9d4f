#include "ops/residual.h"

#include "autograd/saved_tensor.h"
#include "ops/check.h"
#include "ops/gated_activation.h"
#include "ops/gated_activation_parts.h"
#include "ops/linear_parts.h"
#include "ops/rms_norm_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

// Where its result is to be kept anyway, the gated activation is an op of its own, behind which its memory
// is free.
ProductInput recorded(const char* op, const ProductInput& x) {
  if (x.gate) check_gate_up(op, x.tensor.value());
  return SelectiveRecomputeScope::active() ? x : ProductInput(x.computed());
}

// stream + x W^T
Tensor sum_of(const char* op, const Variable& stream, const ProductInput& input, const Tensor& weight) {
  const Tensor x = input.gate ? activate_gated(input.tensor.value(), *input.gate) : input.tensor.value();
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

// Makes the gradients of a node's inputs 1 and 2: x or gate_up, and weight.
class ProductGradients {
 public:
  ProductGradients(const ProductInput& input, const Variable& weight)
      : weight_(weight.value()), input_(input.tensor), gate_(input.gate) {}

  // d_sum: the sum's, in x's dtype.
  void operator()(BackwardContext& context, const Tensor& d_sum) const {
    if (gate_) return through_gate(context, d_sum);
    if (context.needs(1)) linear_input_gradient(d_sum, weight_, context.target(1));
    if (context.needs(2)) linear_weight_gradient(d_sum, input_.get(), context.target(2));
  }

 private:
  void through_gate(BackwardContext& context, const Tensor& d_sum) const {
    const Tensor gate_up = input_.get();
    Tensor x;
    if (context.needs(1)) {
      const Tensor dx = Tensor::empty(Shape{d_sum.rows(), weight_.size(1)}, d_sum.dtype(), d_sum.device());
      linear_input_gradient(d_sum, weight_, {dx, false});
      if (context.needs(2)) x = dx;  // one memory: x is written where dx has been read
      gated_activation_gradient(gate_up, *gate_, dx, context.target(1), x);
    } else if (context.needs(2)) {
      x = activate_gated(gate_up, *gate_);
    }
    if (context.needs(2)) linear_weight_gradient(d_sum, x, context.target(2));
  }

  Tensor weight_;
  SavedTensor input_;
  std::optional<Activation> gate_;
};

}  // namespace

Variable ProductInput::computed() const { return gate ? gated_activation(tensor, *gate) : tensor; }

Variable linear_add(const Variable& stream, const ProductInput& x, const Variable& weight) {
  const ProductInput input = recorded("linear_add", x);
  const Tensor hidden = sum_of("linear_add", stream, input, weight.value());
  return Tape::record_one("linear_add", {stream, input.tensor, weight}, hidden,
                          [compute = weight.dtype(), stream_dtype = stream.dtype(),
                           gradients = ProductGradients(input, weight)](BackwardContext& context) {
                            const Tensor dh = context.output_gradient(0).contiguous();
                            const Tensor rounded = dh.to(compute);
                            context.add(0, stream_dtype == compute ? rounded : dh);
                            gradients(context, rounded);
                          });
}

ResidualNorm linear_add_rms_norm(const Variable& stream, const ProductInput& x, const Variable& weight,
                                 const Variable& norm_weight, double eps) {
  const ProductInput input = recorded("linear_add_rms_norm", x);
  const DType compute = weight.dtype();
  const Tensor h = sum_of("linear_add_rms_norm", stream, input, weight.value());
  check_norm("linear_add_rms_norm", h, norm_weight.value(), compute);
  const std::vector<Variable> inputs = {stream, input.tensor, weight, norm_weight};
  const Tensor rstd = rstd_for(h, Tape::would_record(inputs));
  const auto recipe = normalise_recipe(h, norm_weight.value(), eps, compute, rstd);
  auto backward = [h = h, rstd = rstd, compute, stream_dtype = stream.dtype(),
                   norm_weight = norm_weight.value(),
                   gradients = ProductGradients(input, weight)](BackwardContext& context) mutable {
    // The stream takes the gradient of the sum as it is, the product takes it rounded.
    NormGradients out;
    if (stream_dtype == h.dtype()) out.dh.tensor = Tensor::empty(h.shape(), h.dtype(), h.device());
    if (compute != h.dtype()) out.rounded = Tensor::empty(h.shape(), compute, h.device());
    out.dweight = context.sum_target(3);
    Tensor dresidual = context.take_output_gradient(0), dy = context.take_output_gradient(1);
    if (dresidual.defined()) dresidual = dresidual.contiguous();
    norm_gradients(compute, h, norm_weight, rstd, dy, dresidual, out);
    // What only the norm needed makes room for the product's gradients.
    h = rstd = dresidual = dy = Tensor();
    context.add(0, out.dh.tensor.defined() ? out.dh.tensor : out.rounded);
    gradients(context, out.rounded.defined() ? out.rounded : out.dh.tensor);
  };
  auto outputs = Tape::record("linear_add_rms_norm", inputs, {h, recipe()}, std::move(backward));
  if (SelectiveRecomputeScope::active()) outputs[1].set_recipe(recipe);
  return {outputs[0], outputs[1]};
}

}  // namespace sluice::ops
