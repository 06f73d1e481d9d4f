#include "ops/elementwise.h"

#include "autograd/tape.h"
#include "ops/check.h"

namespace sluice::ops {
namespace {

template <class T>
void multiply_into(const Tensor& a, const Tensor& b, const GradientTarget& out) {
  const int64_t columns = a.rank() == 0 ? 1 : a.size(-1);
  for (int64_t row = 0; row < a.rows(); ++row) {
    const T* a_row = a.data<T>() + row * a.row_stride();
    const T* b_row = b.data<T>() + row * b.row_stride();
    T* out_row = out.tensor.data<T>() + row * out.tensor.row_stride();
    for (int64_t i = 0; i < columns; ++i) {
      const T product = a_row[i] * b_row[i];
      out_row[i] = out.accumulate ? out_row[i] + product : product;
    }
  }
}

void multiply_into(const Tensor& a, const Tensor& b, const GradientTarget& out) {
  dispatch_compute(a.dtype(), "multiply", [&]<class T>() { multiply_into<T>(a, b, out); });
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
