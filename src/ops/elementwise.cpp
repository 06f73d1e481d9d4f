#include "ops/elementwise.h"

#include "autograd/tape.h"
#include "kernels/elementwise/elementwise.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

void multiply_into(const Tensor& a, const Tensor& b, const GradientTarget& out) {
  dispatch_floating(a.dtype(), "multiply", [&]<class T>() {
    kernels::MultiplyParams<T> p;
    p.rows = a.rows(), p.columns = a.rank() == 0 ? 1 : a.size(-1);
    p.a = a.data<T>(), p.a_stride = a.row_stride();
    p.b = b.data<T>(), p.b_stride = b.row_stride();
    p.y = out.tensor.data<T>(), p.y_stride = out.tensor.row_stride(), p.accumulate = out.accumulate;
    SLUICE_LAUNCH(T, a.device(), multiply, p);
  });
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  require_like("add", "b", b.value(), a.value());
  require_shape("add", "b", b.value(), a.shape());
  const Tensor sum = a.value().clone();
  sum.add_from(b.value());
  return Tape::record_one("add", {a, b}, sum, [](BackwardContext& context) {
    context.add(0, context.output_gradient(0));
    context.add(1, context.output_gradient(0));
  });
}

Variable multiply(const Variable& a, const Variable& b) {
  require_like("multiply", "b", b.value(), a.value());
  require_shape("multiply", "b", b.value(), a.shape());
  const Tensor product = Tensor::empty(a.shape(), a.dtype(), a.device());
  multiply_into(a.value(), b.value(), {product, false});
  return Tape::record_one("multiply", {a, b}, product,
                          [x = a.value(), y = b.value()](BackwardContext& context) {
                            const Tensor& gradient = context.output_gradient(0);
                            if (context.needs(0)) multiply_into(gradient, y, context.target(0));
                            if (context.needs(1)) multiply_into(gradient, x, context.target(1));
                          });
}

}  // namespace sluice::ops
