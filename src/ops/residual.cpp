#include "ops/residual.h"

#include "autograd/saved_tensor.h"
#include "ops/check.h"
#include "ops/linear_parts.h"
#include "ops/rms_norm_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

// stream + x W^T
Tensor sum_of(const char* op, const Variable& stream, const Variable& x, const Variable& weight) {
  const LinearSizes sizes = linear_sizes(op, x.value(), weight.value());
  const DType dtype = accumulate_dtype(x.dtype());
  require_shape(op, "stream", stream.value(), Shape{sizes.rows, sizes.out});
  SLUICE_CHECK(stream.dtype() == x.dtype() || stream.dtype() == dtype, kInternal,
               "[{}] expected a stream of {} or {}, got {}", op, name_of(x.dtype()), name_of(dtype),
               name_of(stream.dtype()));
  const Tensor hidden = Tensor::empty(stream.shape(), dtype, x.device());
  multiply_linear(x.value(), weight.value(), {Tensor(), stream.value().to(dtype).contiguous()}, hidden);
  return hidden;
}

// The gradients of inputs 1 and 2, x and weight; d_sum is the sum's in x's dtype.
void product_gradients(BackwardContext& context, const Tensor& d_sum, const SavedTensor& x,
                       const Tensor& weight) {
  if (context.needs(1)) linear_input_gradient(d_sum, weight, context.target(1));
  if (context.needs(2)) linear_weight_gradient(d_sum, x.get(), context.target(2));
}

}  // namespace

Variable linear_add(const Variable& stream, const Variable& x, const Variable& weight) {
  const Tensor hidden = sum_of("linear_add", stream, x, weight);
  return Tape::record_one("linear_add", {stream, x, weight}, hidden,
                          [compute = x.dtype(), stream_dtype = stream.dtype(), weight = weight.value(),
                           x = SavedTensor(x)](BackwardContext& context) {
                            const Tensor dh = context.output_gradient(0).contiguous();
                            const Tensor rounded = dh.to(compute);
                            context.add(0, stream_dtype == compute ? rounded : dh);
                            product_gradients(context, rounded, x, weight);
                          });
}

ResidualNorm linear_add_rms_norm(const Variable& stream, const Variable& x, const Variable& weight,
                                 const Variable& norm_weight, double eps) {
  const DType compute = x.dtype();
  const Tensor h = sum_of("linear_add_rms_norm", stream, x, weight);
  check_norm("linear_add_rms_norm", h, norm_weight.value(), compute);
  const Tensor rstd = rstd_for(h, Tape::would_record({stream, x, weight, norm_weight}));
  const auto recipe = normalise_recipe(h, norm_weight.value(), eps, compute, rstd);
  auto outputs = Tape::record(
      "linear_add_rms_norm", {stream, x, weight, norm_weight}, {h, recipe()},
      [h, rstd, compute, stream_dtype = stream.dtype(), weight = weight.value(),
       norm_weight = norm_weight.value(), x = SavedTensor(x)](BackwardContext& context) {
        // The stream takes the gradient of the sum as it is, the product takes it rounded.
        NormGradients out;
        if (stream_dtype == h.dtype()) out.dh.tensor = Tensor::empty(h.shape(), h.dtype(), h.device());
        if (compute != h.dtype()) out.rounded = Tensor::empty(h.shape(), compute, h.device());
        out.dweight = context.sum_target(3);
        const Tensor& dresidual = context.output_gradient(0);
        norm_gradients(compute, h, norm_weight, rstd, context.output_gradient(1),
                       dresidual.defined() ? dresidual.contiguous() : Tensor(), out);
        context.add(0, out.dh.tensor.defined() ? out.dh.tensor : out.rounded);
        product_gradients(context, out.rounded.defined() ? out.rounded : out.dh.tensor, x, weight);
      });
  if (SelectiveRecomputeScope::active()) outputs[1].set_recipe(recipe);
  return {outputs[0], outputs[1]};
}

}  // namespace sluice::ops
