#include "ops/linear.h"

#include "autograd/tape.h"
#include "kernels/gemm/gemm.h"
#include "ops/check.h"

namespace sluice::ops {
namespace {

struct Sizes {
  int64_t rows, in, out;
};

// y = x W^T
void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y, const Sizes& s) {
  dispatch_compute(x.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = s.rows, p.n = s.out, p.k = s.in;
    p.a = x.data<T>(), p.a_stride = x.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride(), p.transpose_b = true;
    p.c = y.data<T>(), p.c_stride = y.row_stride();
    if (bias.defined()) {
      p.beta = T(1);
      for (int64_t row = 0; row < s.rows; ++row) {
        std::copy_n(bias.data<T>(), s.out, y.data<T>() + row * y.row_stride());
      }
    }
    kernels::cpu::gemm(p);
  });
}

// dx = dy W
void backward_input(const Tensor& dy, const Tensor& weight, const GradientTarget& dx, const Sizes& s) {
  dispatch_compute(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = s.rows, p.n = s.in, p.k = s.out;
    p.a = dy.data<T>(), p.a_stride = dy.row_stride();
    p.b = weight.data<T>(), p.b_stride = weight.row_stride();
    p.c = dx.tensor.data<T>(), p.c_stride = dx.tensor.row_stride();
    p.beta = dx.accumulate ? T(1) : T(0);
    kernels::cpu::gemm(p);
  });
}

// dW = dy^T x
void backward_weight(const Tensor& dy, const Tensor& x, const GradientTarget& dw, const Sizes& s) {
  dispatch_compute(dy.dtype(), "linear", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = s.out, p.n = s.in, p.k = s.rows;
    p.a = dy.data<T>(), p.a_stride = dy.row_stride(), p.transpose_a = true;
    p.b = x.data<T>(), p.b_stride = x.row_stride();
    p.c = dw.tensor.data<T>(), p.c_stride = dw.tensor.row_stride();
    p.beta = dw.accumulate ? T(1) : T(0);
    kernels::cpu::gemm(p);
  });
}

// db = column sums of dy
void backward_bias(const Tensor& dy, const GradientTarget& db, const Sizes& s) {
  dispatch_compute(dy.dtype(), "linear", [&]<class T>() {
    T* sums = db.tensor.data<T>();
    if (!db.accumulate) std::fill_n(sums, s.out, T(0));
    for (int64_t row = 0; row < s.rows; ++row) {
      const T* dy_row = dy.data<T>() + row * dy.row_stride();
      for (int64_t i = 0; i < s.out; ++i) sums[i] += dy_row[i];
    }
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
                          [s, x = weight.requires_grad() ? x.value() : Tensor(),
                           weight = x.requires_grad() ? weight.value() : Tensor()](BackwardContext& context) {
                            const Tensor& dy = context.output_gradient(0);
                            if (context.needs(0)) backward_input(dy, weight, context.target(0), s);
                            if (context.needs(1)) backward_weight(dy, x, context.target(1), s);
                            if (context.needs(2)) backward_bias(dy, context.target(2), s);
                          });
}

}  // namespace sluice::ops
