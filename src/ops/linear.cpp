#include "ops/linear.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "kernels/gemm/bias.h"
#include "kernels/gemm/gemm.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

struct Sizes {
  int64_t rows, in, out;
};

// y = x W^T + bias
void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y, const Sizes& s) {
  dispatch_floating(x.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = s.rows, p.n = s.out, p.k = s.in;
    p.a = x.data<T>(), p.a_stride = x.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride(), p.transpose_b = true;
    p.c = y.data<T>(), p.c_stride = y.row_stride();
    SLUICE_LAUNCH_WITH_SCRATCH(T, x.device(), gemm, p);
    if (!bias.defined()) return;
    kernels::AddBias<T> add;
    add.rows = s.rows, add.columns = s.out;
    add.bias = bias.data<T>();
    add.y = y.data<T>(), add.y_stride = y.row_stride();
    SLUICE_LAUNCH(T, x.device(), add_bias, add);
  });
}

// dx = dy W
void backward_input(const Tensor& dy, const Tensor& weight, const GradientTarget& dx, const Sizes& s) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = s.rows, p.n = s.in, p.k = s.out;
    p.a = dy.data<T>(), p.a_stride = dy.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride();
    p.c = dx.tensor.data<T>(), p.c_stride = dx.tensor.row_stride();
    p.beta = dx.accumulate ? 1 : 0;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), gemm, p);
  });
}

// dW = dy^T x, in float where activations are bfloat16
void backward_weight(const Tensor& dy, const Tensor& x, const GradientTarget& dw, const Sizes& s) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T, kernels::accumulate_t<T>> p;
    p.m = s.out, p.n = s.in, p.k = s.rows;
    p.a = dy.data<T>(), p.a_stride = dy.row_stride(), p.transpose_a = true;
    p.b = x.data<T>(), p.b_stride = x.row_stride();
    p.c = dw.tensor.data<kernels::accumulate_t<T>>(), p.c_stride = dw.tensor.row_stride();
    p.beta = dw.accumulate ? 1 : 0;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), gemm, p);
  });
}

// db = column sums of dy
void backward_bias(const Tensor& dy, const GradientTarget& db, const Sizes& s) {
  dispatch_floating(dy.dtype(), "linear", [&]<class T>() {
    kernels::ColumnSums<T> p;
    p.rows = s.rows, p.columns = s.out;
    p.x = dy.data<T>(), p.x_stride = dy.row_stride();
    p.sums = db.tensor.data<kernels::accumulate_t<T>>(), p.accumulate = db.accumulate;
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), column_sums, p);
  });
}

}  // namespace

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  require_rank("linear", "weight", weight.value(), 2);
  require_like("linear", "weight", weight.value(), x.value());
  const Sizes s{x.value().rows(), weight.size(1), weight.size(0)};
  SLUICE_CHECK(x.value().rank() >= 2 && x.size(-1) == s.in, kInternal,
               "[linear] expected x of shape [..., {}], got {}", s.in, x.shape().to_string());
  if (bias.defined()) require_shape("linear", "bias", bias.value(), Shape{s.out});
  Shape shape = x.shape();
  shape.set(-1, s.out);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  forward(x.value(), weight.value(), bias.value(), y, s);
  return Tape::record_one("linear", {x, weight, bias}, y,
                          [s, x = weight.requires_grad() ? SavedTensor(x) : SavedTensor(),
                           weight = x.requires_grad() ? weight.value() : Tensor()](BackwardContext& context) {
                            const Tensor& dy = context.output_gradient(0);
                            if (context.needs(0)) backward_input(dy, weight, context.target(0), s);
                            if (context.needs(1)) backward_weight(dy, x.get(), context.target(1), s);
                            if (context.needs(2)) backward_bias(dy, context.target(2), s);
                          });
}

Tensor project(const Tensor& x, const Tensor& weight) {
  require_rank("project", "x", x, 2);
  require_rank("project", "weight", weight, 2);
  require_like("project", "weight", weight, x);
  SLUICE_CHECK(x.size(1) == weight.size(1), kInternal, "[project] expected x of shape [N, {}], got {}",
               weight.size(1), x.shape().to_string());
  const Tensor y = Tensor::empty(Shape{x.size(0), weight.size(0)}, accumulate_dtype(x.dtype()), x.device());
  dispatch_floating(x.dtype(), "project", [&]<class T>() {
    kernels::GemmParams<T, kernels::accumulate_t<T>> p;
    p.m = x.size(0), p.n = weight.size(0), p.k = x.size(1);
    p.a = x.data<T>(), p.a_stride = x.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride(), p.transpose_b = true;
    p.c = y.data<kernels::accumulate_t<T>>(), p.c_stride = y.row_stride();
    SLUICE_LAUNCH_WITH_SCRATCH(T, x.device(), gemm, p);
  });
  return y;
}

}  // namespace sluice::ops
