#include "gpu/kernel_case.h"
#include "kernels/linear_attention/gated_head_norm.h"
#include "kernels/norm/rms_norm.h"

using namespace sluice;
using namespace sluice::test;
using kernels::GatedHeadNormBackward;
using kernels::GatedHeadNormForward;
using kernels::RmsNormBackward;
using kernels::RmsNormForward;

namespace {

struct NormCase {
  int64_t rows, columns;
  Layout layout;
  bool has_weight;
};

// H: T or, for a residual stream, accumulate_t<T>.
template <class T, class H = T>
void check_forward(const NormCase& c) {
  INFO("rms_norm_forward " << c.rows << " x " << c.columns << " " << name_of(c.layout) << " weight "
                           << c.has_weight);
  const Layout dense = c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense;
  Matrix<H> h(c.rows, c.columns, c.layout, 1);
  Matrix<kernels::accumulate_t<T>> weight(1, c.columns, dense, 2);
  // Dense by the kernel's terms: all rows as one.
  Matrix<T> y(1, c.rows * c.columns, dense, 0, 0);
  Matrix<float> rstd(1, c.rows, Layout::kDense, 0, 0);
  RmsNormForward<double> expected;
  RmsNormForward<T, H> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.eps = actual.eps = 1e-3;
  expected.h_stride = actual.h_stride = h.stride();
  expected.h = h.host(), actual.h = h.device();
  if (c.has_weight) expected.weight = weight.host(), actual.weight = weight.device();
  expected.y = y.host(), actual.y = y.device();
  expected.rstd = rstd.host(), actual.rstd = rstd.device();
  kernels::cpu::rms_norm_forward(expected);
  kernels::cuda::rms_norm_forward(actual);
  CHECK(y.is_written());
  y.check("y");
  rstd.check("rstd");
}

struct NormGradientCase {
  int64_t rows, columns;
  Layout layout;
  bool has_dy, has_weight, has_dresidual, has_dh, accumulate, has_dweight;
  bool has_rounded = false;
};

template <class T, class H = T>
void check_backward(const NormGradientCase& c) {
  INFO("rms_norm_backward " << c.rows << " x " << c.columns << " " << name_of(c.layout) << " dy " << c.has_dy
                            << " weight " << c.has_weight << " dresidual " << c.has_dresidual << " dh "
                            << c.has_dh << " accumulate " << c.accumulate << " dweight " << c.has_dweight);
  const Layout dense = c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense;
  Matrix<kernels::accumulate_t<T>> weight(1, c.columns, dense, 3);
  Matrix<T> dy(c.rows, c.columns, c.layout, 2), rounded(1, c.rows * c.columns, dense, 0, 0);
  Matrix<H> h(c.rows, c.columns, c.layout, 1), dh(c.rows, c.columns, c.layout, 5, c.accumulate ? 1 : 0);
  Matrix<kernels::accumulate_t<T>> dresidual(1, c.rows * c.columns, dense, 4);
  Matrix<float> rstd(1, c.rows, Layout::kDense, 6), dweight(1, c.columns, Layout::kDense, 7);
  RmsNormBackward<double> expected;
  RmsNormBackward<T, H> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.h = h.host(), actual.h = h.device(), expected.h_stride = actual.h_stride = h.stride();
  if (c.has_weight) expected.weight = weight.host(), actual.weight = weight.device();
  expected.rstd = rstd.host(), actual.rstd = rstd.device();
  if (c.has_dy) {
    expected.dy = dy.host(), actual.dy = dy.device(), expected.dy_stride = actual.dy_stride = dy.stride();
  }
  if (c.has_dresidual) expected.dresidual = dresidual.host(), actual.dresidual = dresidual.device();
  if (c.has_dh) {
    expected.dh = dh.host(), actual.dh = dh.device(), expected.dh_stride = actual.dh_stride = dh.stride();
  }
  expected.accumulate_dh = actual.accumulate_dh = c.accumulate;
  if (c.has_rounded) expected.rounded = rounded.host(), actual.rounded = rounded.device();
  if (c.has_dweight) expected.dweight = dweight.host(), actual.dweight = dweight.device();
  const DeviceArray<char> workspace(static_cast<size_t>(kernels::cuda::rms_norm_backward_workspace(actual)));
  actual.workspace = workspace.data();
  const std::vector<double> start(dweight.host(), dweight.host() + c.columns);
  kernels::cpu::rms_norm_backward(expected);
  kernels::cuda::rms_norm_backward(actual);
  dh.check("dh");
  rounded.check("rounded");
  dweight.check("dweight");
  if (!c.has_dweight || c.accumulate) return;
  check_repeats<float>(start, [&](float* out) {
    actual.dweight = out;
    kernels::cuda::rms_norm_backward(actual);
  });
}

struct HeadCase {
  int64_t rows, heads, head_size;
  Layout layout;
  bool has_gate, has_weight, accumulate;
};

template <class T>
void check_head_forward(const HeadCase& c) {
  INFO("gated_head_norm_forward " << c.rows << " x " << c.heads << " x " << c.head_size << " "
                                  << name_of(c.layout));
  const int64_t columns = c.heads * c.head_size;
  Matrix<T> o(c.rows, columns, c.layout, 1), gate(c.rows, columns, c.layout, 2, 2),
      y(c.rows, columns, c.layout, 0, 0);
  Matrix<kernels::accumulate_t<T>> weight(1, c.head_size,
                                          c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense, 3);
  Matrix<float> rstd(c.rows, c.heads, Layout::kDense, 0, 0);
  GatedHeadNormForward<double> expected;
  GatedHeadNormForward<T> actual;
  expected.rows = actual.rows = c.rows, expected.heads = actual.heads = c.heads;
  expected.head_size = actual.head_size = c.head_size, expected.eps = actual.eps = 1e-3;
  expected.o = o.host(), actual.o = o.device(), expected.o_stride = actual.o_stride = o.stride();
  if (c.has_gate) {
    expected.gate = gate.host(), actual.gate = gate.device(),
    expected.gate_stride = actual.gate_stride = gate.stride();
  }
  if (c.has_weight) expected.weight = weight.host(), actual.weight = weight.device();
  expected.y = y.host(), actual.y = y.device(), expected.y_stride = actual.y_stride = y.stride();
  expected.rstd = rstd.host(), actual.rstd = rstd.device();
  kernels::cpu::gated_head_norm_forward(expected);
  kernels::cuda::gated_head_norm_forward(actual);
  CHECK(y.is_written());
  y.check("y");
  rstd.check("rstd");
}

template <class T>
void check_head_backward(const HeadCase& c) {
  INFO("gated_head_norm_backward " << c.rows << " x " << c.heads << " x " << c.head_size << " "
                                   << name_of(c.layout) << " gate " << c.has_gate << " weight "
                                   << c.has_weight << " accumulate " << c.accumulate);
  const int64_t columns = c.heads * c.head_size;
  const double fill = c.accumulate ? 1 : 0;
  Matrix<T> o(c.rows, columns, c.layout, 1), gate(c.rows, columns, c.layout, 2, 2),
      dy(c.rows, columns, c.layout, 3);
  Matrix<T> d_o(c.rows, columns, c.layout, 4, fill), dgate(c.rows, columns, c.layout, 5, fill);
  Matrix<kernels::accumulate_t<T>> weight(1, c.head_size,
                                          c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense, 6);
  Matrix<float> rstd(c.rows, c.heads, Layout::kDense, 7), dweight(1, c.head_size, Layout::kDense, 8);
  GatedHeadNormBackward<double> expected;
  GatedHeadNormBackward<T> actual;
  expected.rows = actual.rows = c.rows, expected.heads = actual.heads = c.heads;
  expected.head_size = actual.head_size = c.head_size;
  expected.o = o.host(), actual.o = o.device(), expected.o_stride = actual.o_stride = o.stride();
  expected.dy = dy.host(), actual.dy = dy.device(), expected.dy_stride = actual.dy_stride = dy.stride();
  expected.d_o = d_o.host(), actual.d_o = d_o.device(),
  expected.d_o_stride = actual.d_o_stride = d_o.stride();
  if (c.has_gate) {
    expected.gate = gate.host(), actual.gate = gate.device(),
    expected.gate_stride = actual.gate_stride = gate.stride();
    expected.dgate = dgate.host(), actual.dgate = dgate.device();
    expected.dgate_stride = actual.dgate_stride = dgate.stride();
  }
  if (c.has_weight) expected.weight = weight.host(), actual.weight = weight.device();
  expected.accumulate_d_o = expected.accumulate_dgate = c.accumulate;
  actual.accumulate_d_o = actual.accumulate_dgate = c.accumulate;
  expected.rstd = rstd.host(), actual.rstd = rstd.device();
  expected.dweight = dweight.host(), actual.dweight = dweight.device();
  const std::vector<double> start(dweight.host(), dweight.host() + c.head_size);
  const DeviceArray<char> workspace(
      static_cast<size_t>(kernels::cuda::gated_head_norm_backward_workspace(actual)));
  actual.workspace = workspace.data();
  kernels::cpu::gated_head_norm_backward(expected);
  kernels::cuda::gated_head_norm_backward(actual);
  d_o.check("d_o");
  dgate.check("dgate");
  dweight.check("dweight");
  if (c.accumulate) return;
  check_repeats<float>(start, [&](float* out) {
    actual.dweight = out;
    kernels::cuda::gated_head_norm_backward(actual);
  });
}

}  // namespace

TEST_CASE("rms_norm_forward") {
  for (const int64_t columns : {1, 17, 64, 256, 1000, 2048, 5632, 8192, 20000}) {
    for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
      const NormCase c{columns < 100 ? 37 : 3, columns, layout, columns != 64};
      check_forward<float>(c);
      check_forward<bfloat16>(c);
      check_forward<bfloat16, float>(c);
    }
  }
}

TEST_CASE("rms_norm_backward") {
  for (const int64_t columns : {1, 17, 64, 1000, 2048, 5632, 8192, 20000}) {
    for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
      for (const bool accumulate : {false, true}) {
        const NormGradientCase c{columns == 1    ? 40
                                 : columns < 100 ? 5000
                                                 : 7,
                                 columns,
                                 layout,
                                 true,
                                 columns != 64,
                                 accumulate,
                                 true,
                                 accumulate,
                                 true,
                                 !accumulate};
        check_backward<float>(c);
        check_backward<bfloat16>(c);
        check_backward<bfloat16, float>(c);
      }
    }
  }
  for (const int64_t columns : {96, 20000}) {
    for (const NormGradientCase& c :
         {NormGradientCase{9, columns, Layout::kDense, false, true, true, true, false, true},
          {9, columns, Layout::kDense, true, true, true, false, false, true},
          {9, columns, Layout::kDense, true, false, false, true, true, false},
          {9, columns, Layout::kOdd, true, true, true, false, false, true, true},
          {9, columns, Layout::kDense, false, true, true, true, false, false, true}}) {
      check_backward<float>(c);
      check_backward<bfloat16>(c);
      check_backward<bfloat16, float>(c);
    }
  }
}

TEST_CASE("gated_head_norm") {
  for (const int64_t head_size : {1, 16, 33, 64, 128, 200, 256, 512, 768, 1024}) {
    for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
      for (const bool plain : {false, true}) {
        const HeadCase c{head_size < 100 ? 1500 : 11, 3, head_size, layout, !plain, !plain, plain};
        check_head_forward<float>(c);
        check_head_forward<bfloat16>(c);
        check_head_backward<float>(c);
        check_head_backward<bfloat16>(c);
      }
    }
  }
}

TEST_CASE("gated_head_norm names the head sizes it supports") {
  GatedHeadNormForward<float> p;
  p.rows = 1, p.heads = 1, p.head_size = 1025;
  CHECK_THROWS_AS(kernels::cuda::gated_head_norm_forward(p), Error);
}
