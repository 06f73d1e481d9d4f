#include "ops/linear_cross_entropy.h"

#include <algorithm>

#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/scaled_add.h"
#include "kernels/loss/scaled_sum.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

// Logits that exist at a time: on the CPU what its caches hold, on a GPU enough rows to fill it.
int64_t chunk_bytes(Device device) { return int64_t{device == Device::kCpu ? 16 : 256} << 20; }

struct Sizes {
  int64_t tokens, vocabulary, channels, chunk_rows;
};

// Checks everything and returns the number of labels that are not ignored, -1 on a GPU.
int64_t check(const char* op, const Tensor& x, const Tensor& weight, const Tensor& labels,
              int32_t ignore_index) {
  require_rank(op, "x", x, 2);
  require_rank(op, "weight", weight, 2);
  require_like(op, "weight", weight, x);
  SLUICE_CHECK(weight.size(1) == x.size(1), kInternal, "[{}] expected weight of shape [V, {}], got {}", op,
               x.size(1), weight.shape().to_string());
  require_dtype(op, "labels", labels, DType::kI32);
  require_shape(op, "labels", labels, Shape{x.size(0)});
  if (x.device() != Device::kCpu) return -1;  // not known without waiting; the kernel marks bad labels by NaN
  const int32_t* values = labels.data<int32_t>();
  int64_t count = 0;
  for (int64_t i = 0; i < x.size(0); ++i) {
    if (values[i] == ignore_index) continue;
    SLUICE_CHECK(values[i] >= 0 && values[i] < weight.size(0), kData,
                 "[{}] label {} at position {} is neither in the vocabulary of {} nor {}, the ignored one",
                 op, values[i], i, weight.size(0), ignore_index);
    ++count;
  }
  return count;
}

Sizes sizes_of(const Tensor& x, const Tensor& weight, int64_t chunk_rows) {
  SLUICE_CHECK(chunk_rows >= 0, kInternal, "[linear_cross_entropy] expected chunk_rows >= 0, got {}",
               chunk_rows);
  Sizes s{x.size(0), weight.size(0), x.size(1), chunk_rows};
  if (s.chunk_rows == 0)
    s.chunk_rows = chunk_bytes(x.device()) / std::max<int64_t>(1, s.vocabulary * size_of(x.dtype()));
  s.chunk_rows = std::clamp<int64_t>(s.chunk_rows, 1, std::max<int64_t>(1, s.tokens));
  return s;
}

// logits = x W^T for the rows [first, first + rows).
template <class T>
void project(const Tensor& x, const Tensor& weight, const Tensor& logits, int64_t first, int64_t rows) {
  kernels::GemmParams<T> p;
  p.m = rows, p.n = weight.size(0), p.k = x.size(1);
  p.a = x.data<T>() + first * x.row_stride(), p.a_stride = x.row_stride();
  p.b = weight.data<T>(), p.b_stride = weight.row_stride(), p.transpose_b = true;
  p.c = logits.data<T>(), p.c_stride = p.n;
  SLUICE_LAUNCH_WITH_SCRATCH(T, x.device(), gemm, p);
}

// dx = dlogits W for the chunk's rows.
template <class T>
void backward_input(const Tensor& dlogits, const Tensor& weight, const Tensor& dx, int64_t first,
                    int64_t rows) {
  kernels::GemmParams<T> p;
  p.m = rows, p.n = dx.size(1), p.k = weight.size(0);
  p.a = dlogits.data<T>(), p.a_stride = p.k;
  p.b = weight.data<T>(), p.b_stride = weight.row_stride();
  p.c = dx.data<T>() + first * dx.row_stride(), p.c_stride = dx.row_stride();
  SLUICE_LAUNCH_WITH_SCRATCH(T, dlogits.device(), gemm, p);
}

// dW += dlogits^T x over the chunk's rows; the first chunk's are written.
template <class T>
void backward_weight(const Tensor& dlogits, const Tensor& x, const Tensor& dweight, int64_t first,
                     int64_t rows) {
  kernels::GemmParams<T, kernels::accumulate_t<T>> p;
  p.m = dweight.size(0), p.n = x.size(1), p.k = rows;
  p.a = dlogits.data<T>(), p.a_stride = p.m, p.transpose_a = true;
  p.b = x.data<T>() + first * x.row_stride(), p.b_stride = x.row_stride();
  p.c = dweight.data<kernels::accumulate_t<T>>(), p.c_stride = dweight.row_stride();
  p.beta = first == 0 ? 0 : 1;
  SLUICE_LAUNCH_WITH_SCRATCH(T, dlogits.device(), gemm, p);
}

// Token losses into nll [N]; where dx or dweight are defined also the gradients of their sum times
// `gradient_scale`.
template <class T>
void run(const Sizes& s, const Tensor& x, const Tensor& weight, const Tensor& labels, int32_t ignore_index,
         double gradient_scale, const Tensor& nll, const Tensor& dx, const Tensor& dweight) {
  const Tensor logits = Tensor::empty(Shape{s.chunk_rows, s.vocabulary}, x.dtype(), x.device());
  for (int64_t first = 0; first < s.tokens; first += s.chunk_rows) {
    const int64_t rows = std::min(s.chunk_rows, s.tokens - first);
    project<T>(x, weight, logits, first, rows);
    kernels::CrossEntropyParams<T> p;
    p.rows = rows, p.columns = s.vocabulary;
    p.logits = logits.data<T>(), p.logits_stride = s.vocabulary;
    p.labels = labels.data<int32_t>() + first, p.ignore_index = ignore_index;
    p.nll = nll.data<kernels::accumulate_t<T>>() + first;
    p.want_gradient = dx.defined() || dweight.defined(), p.gradient_scale = gradient_scale;
    SLUICE_LAUNCH(T, x.device(), cross_entropy, p);
    if (dx.defined()) backward_input<T>(logits, weight, dx, first, rows);
    if (dweight.defined()) backward_weight<T>(logits, x, dweight, first, rows);
  }
}

Tensor scaled_sum(const Tensor& nll, double factor) {
  const Tensor loss = Tensor::empty(Shape{}, nll.dtype(), nll.device());
  // Token losses are never bfloat16.
  dispatch_floating(nll.dtype(), "linear_cross_entropy", [&]<class T>() {
    if constexpr (!std::is_same_v<T, bfloat16>) {
      kernels::ScaledSumParams<T> p;
      p.count = nll.numel();
      p.x = nll.data<T>(), p.factor = factor, p.y = loss.data<T>();
      SLUICE_LAUNCH(T, nll.device(), scaled_sum, p);
    }
  });
  return loss;
}

void add_scaled(const Tensor& factor, const Tensor& gradient, const GradientTarget& target) {
  dispatch_floating(gradient.dtype(), "linear_cross_entropy", [&]<class T>() {
    kernels::ScaledAddParams<T> p;
    p.rows = gradient.size(0), p.columns = gradient.size(1);
    p.factor = factor.data<kernels::accumulate_t<T>>();
    p.x = gradient.data<T>(), p.x_stride = gradient.row_stride();
    p.y = target.tensor.data<T>(), p.y_stride = target.tensor.row_stride();
    p.accumulate = target.accumulate;
    SLUICE_LAUNCH(T, gradient.device(), scaled_add, p);
  });
}

}  // namespace

Variable linear_cross_entropy(const Variable& x, const Variable& weight, const Tensor& labels,
                              const LinearCrossEntropyOptions& options) {
  const int64_t count =
      check("linear_cross_entropy", x.value(), weight.value(), labels, options.ignore_index);
  SLUICE_CHECK(options.denominator >= 0, kInternal,
               "[linear_cross_entropy] expected a denominator > 0 (or 0: count the labels), got {}",
               options.denominator);
  SLUICE_CHECK(options.denominator > 0 || count >= 0, kInternal,
               "[linear_cross_entropy] labels on a GPU are not counted: expected a denominator");
  const double denominator = options.denominator > 0 ? options.denominator : static_cast<double>(count);
  const double scale = denominator > 0 ? 1.0 / denominator : 0.0;
  const Sizes s = sizes_of(x.value(), weight.value(), options.chunk_rows);
  const bool recorded = Tape::would_record({x, weight});
  const Tensor nll = Tensor::empty(Shape{s.tokens}, accumulate_dtype(x.dtype()), x.device());
  const Tensor dx =
      recorded && x.requires_grad() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
  const Tensor dweight = recorded && weight.requires_grad()
                             ? Tensor::empty(weight.shape(), accumulate_dtype(x.dtype()), x.device())
                             : Tensor();
  if (dweight.defined() && s.tokens == 0) dweight.fill_zero();
  dispatch_floating(x.dtype(), "linear_cross_entropy", [&]<class T>() {
    run<T>(s, x.value(), weight.value(), labels, options.ignore_index, scale, nll, dx, dweight);
  });
  return Tape::record_one("linear_cross_entropy", {x, weight}, scaled_sum(nll, scale),
                          [dx, dweight](BackwardContext& context) {
                            const Tensor& factor = context.output_gradient(0);
                            if (context.needs(0)) add_scaled(factor, dx, context.target(0));
                            if (context.needs(1)) add_scaled(factor, dweight, context.target(1));
                          });
}

Tensor cross_entropy_per_token(const Tensor& x, const Tensor& weight, const Tensor& labels,
                               int32_t ignore_index, int64_t chunk_rows) {
  check("cross_entropy_per_token", x, weight, labels, ignore_index);
  const Sizes s = sizes_of(x, weight, chunk_rows);
  const Tensor nll = Tensor::empty(Shape{s.tokens}, accumulate_dtype(x.dtype()), x.device());
  dispatch_floating(x.dtype(), "cross_entropy_per_token", [&]<class T>() {
    run<T>(s, x, weight, labels, ignore_index, 1.0, nll, Tensor(), Tensor());
  });
  return nll;
}

}  // namespace sluice::ops
