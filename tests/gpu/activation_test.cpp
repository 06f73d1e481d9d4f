#include "kernels/activation/activation.h"
#include "gpu/kernel_case.h"
#include "kernels/activation/gated_activation.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/column_sums.h"
#include "kernels/linear_attention/log_decay_gate.h"
#include "kernels/rope/rotary.h"

using namespace sluice;
using namespace sluice::test;
using kernels::Activation;

namespace {

constexpr int kActivations = 13;

struct Case {
  int64_t rows, columns;
  Layout layout;
  bool accumulate;
};
// Wide and narrow, one row, more rows than a grid's second dimension has tiles of.
const Case kCases[] = {{1, 1, Layout::kDense, false},     {1, 5000, Layout::kDense, true},
                       {70, 520, Layout::kStrided, true}, {33, 515, Layout::kOdd, true},
                       {33, 512, Layout::kOdd, false},    {29, 72, Layout::kStrided, false},
                       {600000, 1, Layout::kDense, true}, {3, 3, Layout::kStrided, false}};

// Binds a matrix to a pointer and stride of both params structs.
#define BIND(member, matrix)                                            \
  expected.member = (matrix).host(), actual.member = (matrix).device(), \
  expected.member##_stride = actual.member##_stride = (matrix).stride()

template <class T>
void check_activation(Activation activation, const Case& c) {
  INFO("activation " << static_cast<int>(activation) << " " << c.rows << " x " << c.columns << " "
                     << name_of(c.layout));
  Matrix<T> x(c.rows, c.columns, c.layout, 1, 3), y(c.rows, c.columns, c.layout, 0, 0);
  Matrix<T> dy(c.rows, c.columns, c.layout, 2), dx(c.rows, c.columns, c.layout, 3, c.accumulate ? 1 : 0);
  {
    kernels::ActivationForward<double> expected;
    kernels::ActivationForward<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    expected.activation = actual.activation = activation;
    BIND(x, x), BIND(y, y);
    kernels::cpu::activation_forward(expected);
    kernels::cuda::activation_forward(actual);
  }
  CHECK(y.is_written());
  y.check("y");
  kernels::ActivationBackward<double> expected;
  kernels::ActivationBackward<T> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.activation = actual.activation = activation;
  expected.accumulate = actual.accumulate = c.accumulate;
  BIND(x, x), BIND(dy, dy), BIND(dx, dx);
  kernels::cpu::activation_backward(expected);
  kernels::cuda::activation_backward(actual);
  dx.check("dx");
}

template <class T>
void check_gated(Activation activation, const Case& c) {
  INFO("gated " << static_cast<int>(activation) << " " << c.rows << " x " << c.columns << " "
                << name_of(c.layout));
  Matrix<T> gate_up(c.rows, 2 * c.columns, c.layout, 1, 2), y(c.rows, c.columns, c.layout, 0, 0);
  Matrix<T> dy(c.rows, c.columns, c.layout, 2),
      dgate_up(c.rows, 2 * c.columns, c.layout, 3, c.accumulate ? 1 : 0);
  {
    kernels::GatedActivationForward<double> expected;
    kernels::GatedActivationForward<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    expected.activation = actual.activation = activation;
    BIND(gate_up, gate_up), BIND(y, y);
    kernels::cpu::gated_activation_forward(expected);
    kernels::cuda::gated_activation_forward(actual);
  }
  CHECK(y.is_written());
  y.check("y");
  kernels::GatedActivationBackward<double> expected;
  kernels::GatedActivationBackward<T> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.activation = actual.activation = activation;
  expected.accumulate = actual.accumulate = c.accumulate;
  BIND(gate_up, gate_up), BIND(dy, dy), BIND(dgate_up, dgate_up);
  kernels::cpu::gated_activation_backward(expected);
  kernels::cuda::gated_activation_backward(actual);
  dgate_up.check("dgate_up");
  // Once more with the result, in the place of dy: the bits of the forward pass.
  Matrix<T> in_place(c.rows, c.columns, c.layout, 2),
      again(c.rows, 2 * c.columns, c.layout, 3, c.accumulate ? 1 : 0);
  actual.dy = actual.y = in_place.device(), actual.dy_stride = actual.y_stride = in_place.stride();
  actual.dgate_up = again.device(), actual.dgate_up_stride = again.stride();
  kernels::cuda::gated_activation_backward(actual);
  CHECK(in_place.device_rows() == y.device_rows());
  CHECK(again.device_rows() == dgate_up.device_rows());
}

template <class T>
void check_elementwise(const Case& c) {
  INFO("elementwise " << c.rows << " x " << c.columns << " " << name_of(c.layout));
  Matrix<T> a(c.rows, c.columns, c.layout, 1), b(c.rows, c.columns, c.layout, 2);
  Matrix<T> sum(c.rows, c.columns, c.layout, 0, 0),
      product(c.rows, c.columns, c.layout, 3, c.accumulate ? 1 : 0);
  {
    kernels::AddParams<double> expected;
    kernels::AddParams<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    BIND(a, a), BIND(b, b), BIND(y, sum);
    kernels::cpu::add(expected);
    kernels::cuda::add(actual);
  }
  CHECK(sum.is_written());
  sum.check("sum");
  kernels::MultiplyParams<double> expected;
  kernels::MultiplyParams<T> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.accumulate = actual.accumulate = c.accumulate;
  BIND(a, a), BIND(b, b), BIND(y, product);
  kernels::cpu::multiply(expected);
  kernels::cuda::multiply(actual);
  product.check("product");
}

template <class T>
void check_column_sums(const Case& c) {
  INFO("column_sums " << c.rows << " x " << c.columns << " " << name_of(c.layout));
  Matrix<T> y(c.rows, c.columns, c.layout, 1);
  Matrix<float> sums(1, c.columns, Layout::kDense, 3, c.accumulate ? 1 : 0);
  const std::vector<double> start(sums.host(), sums.host() + c.columns);
  {
    kernels::ColumnSums<double> expected;
    kernels::ColumnSums<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    BIND(x, y);
    expected.sums = sums.host(), actual.sums = sums.device();
    expected.accumulate = actual.accumulate = c.accumulate;
    const DeviceArray<char> workspace(static_cast<size_t>(kernels::cuda::column_sums_workspace(actual)));
    actual.workspace = workspace.data();
    kernels::cpu::column_sums(expected);
    kernels::cuda::column_sums(actual);
    sums.check("column sums");
    check_repeats<float>(start, [&](float* out) {
      actual.sums = out;
      kernels::cuda::column_sums(actual);
    });
  }
}

template <class T>
void check_gate(const Case& c, double clamp_min) {
  INFO("log_decay_gate " << c.rows << " x " << c.columns << " " << name_of(c.layout) << " clamp "
                         << clamp_min);
  Matrix<T> a(c.rows, c.columns, c.layout, 1, 4), g(c.rows, c.columns, c.layout, 0, 0);
  Matrix<T> dg(c.rows, c.columns, c.layout, 2), da(c.rows, c.columns, c.layout, 3, c.accumulate ? 1 : 0);
  {
    kernels::LogDecayGateForward<double> expected;
    kernels::LogDecayGateForward<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    expected.clamp_min = actual.clamp_min = clamp_min;
    BIND(a, a), BIND(g, g);
    kernels::cpu::log_decay_gate_forward(expected);
    kernels::cuda::log_decay_gate_forward(actual);
  }
  CHECK(g.is_written());
  g.check("g");
  kernels::LogDecayGateBackward<double> expected;
  kernels::LogDecayGateBackward<T> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.clamp_min = actual.clamp_min = clamp_min;
  expected.accumulate_da = actual.accumulate_da = c.accumulate;
  BIND(a, a), BIND(dg, dg), BIND(da, da);
  kernels::cpu::log_decay_gate_backward(expected);
  kernels::cuda::log_decay_gate_backward(actual);
  da.check("da");
}

enum class To { kElsewhere, kAddedElsewhere, kInPlace };

template <class T>
void check_rotary(int64_t half, int64_t heads, Layout layout, bool inverse, To to) {
  INFO("rotary half " << half << " heads " << heads << " " << name_of(layout) << " inverse " << inverse
                      << " to " << static_cast<int>(to));
  constexpr int64_t kRows = 45, kPositions = 20;
  Matrix<T> x(kRows, heads * 2 * half, layout, 1),
      elsewhere(kRows, heads * 2 * half, layout, 2, to == To::kAddedElsewhere ? 1 : 0);
  Matrix<T>& y = to == To::kInPlace ? x : elsewhere;
  const Layout dense = layout == Layout::kOdd ? Layout::kOdd : Layout::kDense;
  Matrix<float> cosines(1, kPositions * half, dense, 3), sines(1, kPositions * half, dense, 4);
  std::vector<int32_t> place;
  for (int64_t row = 0; row < kRows; ++row) place.push_back(static_cast<int32_t>(row * 7 % kPositions));
  const DeviceArray<int32_t> device_place(place);
  kernels::RotaryParams<double> expected;
  kernels::RotaryParams<T> actual;
  expected.rows = actual.rows = kRows, expected.heads = actual.heads = heads,
  expected.half = actual.half = half;
  expected.inverse = actual.inverse = inverse;
  expected.accumulate = actual.accumulate = to == To::kAddedElsewhere;
  expected.place = place.data(), actual.place = device_place.data();
  expected.cosines = cosines.host(), actual.cosines = cosines.device();
  expected.sines = sines.host(), actual.sines = sines.device();
  BIND(x, x), BIND(y, y);
  kernels::cpu::rotary(expected);
  kernels::cuda::rotary(actual);
  CHECK(y.is_written());
  y.check("y");
}

}  // namespace

TEST_CASE("activations and gated activations") {
  for (int activation = 0; activation < kActivations; ++activation) {
    for (const Case& c : kCases) {
      if (c.rows > 1000 && activation > 0) continue;
      check_activation<float>(static_cast<Activation>(activation), c);
      check_activation<bfloat16>(static_cast<Activation>(activation), c);
      check_gated<float>(static_cast<Activation>(activation), c);
      check_gated<bfloat16>(static_cast<Activation>(activation), c);
    }
  }
}

TEST_CASE("activations of the largest and smallest numbers are no NaN") {
  const std::vector<double> extremes = {3e38, -3e38, 1e20, -1e20, 87.5,  -87.5,
                                        88.5, -88.5, 104,  -104,  1e-40, 0};
  const DeviceArray<float> x(extremes), dy(std::vector<double>(extremes.size(), 1));
  for (int activation = 0; activation < kActivations; ++activation) {
    const DeviceArray<float> y(extremes.size()), dx(extremes.size());
    kernels::ActivationForward<float> forward;
    kernels::ActivationBackward<float> backward;
    forward.rows = backward.rows = 1;
    forward.columns = backward.columns = static_cast<int64_t>(extremes.size());
    forward.activation = backward.activation = static_cast<Activation>(activation);
    forward.x = backward.x = x.data(), forward.y = y.data(), backward.dy = dy.data(), backward.dx = dx.data();
    kernels::cuda::activation_forward(forward);
    kernels::cuda::activation_backward(backward);
    const auto values = y.to_doubles(), slopes = dx.to_doubles();
    for (size_t i = 0; i < extremes.size(); ++i) {
      INFO("activation " << activation << " of " << extremes[i] << ": " << values[i] << ", slope "
                         << slopes[i]);
      CHECK_FALSE(std::isnan(values[i]));
      CHECK_FALSE(std::isnan(slopes[i]));
    }
  }
}

TEST_CASE("add, multiply and column sums") {
  for (const Case& c : kCases) {
    check_elementwise<float>(c);
    check_elementwise<bfloat16>(c);
    check_column_sums<float>(c);
    check_column_sums<bfloat16>(c);
  }
  check_column_sums<float>({5000, 264, Layout::kStrided, false});
  check_column_sums<bfloat16>({5000, 264, Layout::kStrided, false});
}

TEST_CASE("column sums of no rows are zero") {
  Matrix<float> sums(1, 40, Layout::kDense, 1);
  kernels::ColumnSums<float> p;
  p.columns = 40, p.sums = sums.device();
  kernels::cuda::column_sums(p);
  for (const double sum : sums.device_values()) CHECK(sum == 0);
}

TEST_CASE("log_decay_gate") {
  for (const Case& c : kCases) {
    for (const double clamp_min : {-std::numeric_limits<double>::infinity(), -0.1}) {
      check_gate<float>(c, clamp_min);
      check_gate<bfloat16>(c, clamp_min);
    }
  }
}

TEST_CASE("log_decay_gate keeps the digits of small decays") {
  std::vector<double> a;
  for (int i = -200; i <= 200; ++i) a.push_back(0.25 * i);
  const DeviceArray<float> device_a(a), g(a.size());
  kernels::LogDecayGateForward<float> p;
  p.rows = 1, p.columns = static_cast<int64_t>(a.size()), p.a = device_a.data(), p.g = g.data();
  kernels::cuda::log_decay_gate_forward(p);
  const auto values = g.to_doubles();
  for (size_t i = 0; i < a.size(); ++i) {
    const double expected = (std::min(a[i], 0.0) - std::log1p(std::exp(-std::abs(a[i])))) / 16;
    INFO("a " << a[i] << ": " << values[i] << " for " << expected);
    CHECK(std::abs(values[i] - expected) <= 1e-6 * std::abs(expected));
  }
}

TEST_CASE("rotary") {
  for (const int64_t half : {1, 5, 8, 12, 32, 64, 100}) {
    for (const int64_t heads : {1, 3, 8, 19}) {
      for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
        for (const To to : {To::kElsewhere, To::kAddedElsewhere, To::kInPlace}) {
          const bool inverse = (half + heads + static_cast<int64_t>(to)) % 2 == 0;
          check_rotary<float>(half, heads, layout, inverse, to);
          check_rotary<bfloat16>(half, heads, layout, inverse, to);
        }
      }
    }
  }
}
