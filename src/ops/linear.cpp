#include "ops/linear.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "kernels/gemm/column_sums.h"
#include "kernels/gemm/gemm.h"
#include "ops/check.h"
#include "ops/dispatch_accumulate.h"
#include "ops/linear_parts.h"
#include "tensor/launch.h"

namespace sluice::ops {

LinearSizes linear_sizes(const char* op, const Tensor& x, const Tensor& weight) {
  require_rank(op, "weight", weight, 2);
  require_like(op, "weight", weight, x);
  const LinearSizes s{x.rows(), weight.size(1), weight.size(0)};
  SLUICE_CHECK(x.rank() >= 2 && x.size(-1) == s.in, kInternal, "[{}] expected x of shape [..., {}], got {}",
               op, s.in, x.shape().to_string());
  return s;
}

void multiply_linear(const Tensor& x, const Tensor& weight, const Added& added, const Tensor& y) {
  const LinearSizes s{x.rows(), weight.size(1), weight.size(0)};
  dispatch_floating(x.dtype(), "linear", [&]<class T>() {
    dispatch_accumulate<T>(y.dtype(), [&]<class Output>() {
      kernels::GemmParams<T, Output> p;
      p.m = s.rows, p.n = s.out, p.k = s.in;
      p.a = x.data<T>(), p.a_stride = x.row_stride();
      p.b = weight.data<T>(), p.b_stride = weight.row_stride(), p.transpose_b = true;
      p.c = y.data<Output>(), p.c_stride = y.row_stride();
      p.bias = data_or_null<T>(added.bias), p.addend = data_or_null<Output>(added.addend);
      SLUICE_LAUNCH_WITH_SCRATCH(T, x.device(), gemm, p);
    });
  });
}

void linear_input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = dy.rows(), p.n = weight.size(1), p.k = weight.size(0);
    p.a = dy.data<T>(), p.a_stride = dy.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride();
    p.c = dx.tensor.data<T>(), p.c_stride = dx.tensor.row_stride();
    p.beta = dx.accumulate ? 1 : 0;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), gemm, p);
  });
}

void linear_weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T, kernels::accumulate_t<T>> p;
    p.m = dy.size(-1), p.n = x.size(-1), p.k = dy.rows();
    p.a = dy.data<T>(), p.a_stride = dy.row_stride(), p.transpose_a = true;
    p.b = x.data<T>(), p.b_stride = x.row_stride();
    p.c = dw.tensor.data<kernels::accumulate_t<T>>(), p.c_stride = dw.tensor.row_stride();
    p.beta = dw.accumulate ? 1 : 0;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), gemm, p);
  });
}

namespace {

// db = column sums of dy
void bias_gradient(const Tensor& dy, const GradientTarget& db) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::ColumnSums<T> p;
    p.rows = dy.rows(), p.columns = dy.size(-1);
    p.x = dy.data<T>(), p.x_stride = dy.row_stride();
    p.sums = db.tensor.data<kernels::accumulate_t<T>>(), p.accumulate = db.accumulate;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), column_sums, p);
  });
}

}  // namespace

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  const LinearSizes s = linear_sizes("linear", x.value(), weight.value());
  if (bias.defined()) {
    require_like("linear", "bias", bias.value(), x.value());
    require_shape("linear", "bias", bias.value(), Shape{s.out});
  }
  Shape shape = x.shape();
  shape.set(-1, s.out);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  multiply_linear(x.value(), weight.value(), {bias.value(), Tensor()}, y);
  return Tape::record_one("linear", {x, weight, bias}, y,
                          [x = weight.requires_grad() ? SavedTensor(x) : SavedTensor(),
                           weight = x.requires_grad() ? weight.value() : Tensor()](BackwardContext& context) {
                            const Tensor& dy = context.output_gradient(0);
                            if (context.needs(0)) linear_input_gradient(dy, weight, context.target(0));
                            if (context.needs(1)) linear_weight_gradient(dy, x.get(), context.target(1));
                            if (context.needs(2)) bias_gradient(dy, context.target(2));
                          });
}

Tensor project(const Tensor& x, const Tensor& weight) {
  require_rank("project", "x", x, 2);
  const LinearSizes s = linear_sizes("project", x, weight);
  const Tensor y = Tensor::empty(Shape{s.rows, s.out}, accumulate_dtype(x.dtype()), x.device());
  multiply_linear(x, weight, {}, y);
  return y;
}

}  // namespace sluice::ops
