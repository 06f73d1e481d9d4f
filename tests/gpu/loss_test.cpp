#include "gpu/kernel_case.h"
#include "kernels/embed/embedding.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/scaled_add.h"
#include "kernels/loss/scaled_sum.h"

using namespace sluice;
using namespace sluice::test;

namespace {

template <class T>
void check_cross_entropy(int64_t columns, Layout layout, bool want_gradient, double shift) {
  INFO("cross_entropy " << columns << " columns " << name_of(layout) << " gradient " << want_gradient
                        << " shift " << shift << " " << sizeof(T) << " bytes");
  constexpr int64_t kRows = 7;
  Matrix<T> logits(kRows, columns, layout, 1, 3);
  for (int64_t row = 0; row < kRows && shift != 0; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      logits.at(row, column) = widened(rounded_to<T>(logits.at(row, column) + shift));
    }
  }
  logits.copy_to_device();
  Matrix<float> nll(1, kRows, Layout::kDense, 0, 0);
  const auto last = static_cast<int32_t>(columns - 1);
  const std::vector<int32_t> labels = {0, last, -100, last / 2, -1, static_cast<int32_t>(columns), last / 3};
  const DeviceArray<int32_t> device_labels(labels);
  kernels::CrossEntropyParams<double> expected;
  kernels::CrossEntropyParams<T> actual;
  expected.rows = actual.rows = kRows, expected.columns = actual.columns = columns;
  expected.logits = logits.host(), actual.logits = logits.device();
  expected.logits_stride = actual.logits_stride = logits.stride();
  expected.labels = labels.data(), actual.labels = device_labels.data();
  expected.nll = nll.host(), actual.nll = nll.device();
  expected.want_gradient = actual.want_gradient = want_gradient;
  expected.gradient_scale = actual.gradient_scale = 0.37;
  kernels::cpu::cross_entropy(expected);
  kernels::cuda::cross_entropy(actual);
  nll.check("nll", {1e-6, 1e-5});
  CHECK(std::isnan(nll.host()[4]));
  logits.check(want_gradient ? "gradient" : "logits");
  if (!want_gradient) return;
  // Element by element: next to the label's, the other gradients vanish in an RMS.
  const auto gradient = logits.device_values();
  const double relative = std::is_same_v<T, bfloat16> ? 0x1p-8 : 1e-5;
  double worst = 0;
  const int64_t offset = layout == Layout::kOdd ? 1 : 0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const double reference = logits.at(row, column);
      const double value = gradient[static_cast<size_t>(offset + row * logits.stride() + column)];
      if (std::isnan(reference) || column == labels[static_cast<size_t>(row)]) continue;
      worst = std::max(worst, std::abs(value - reference) / (std::abs(reference) + 1e-20));
    }
  }
  CHECK(worst <= relative);
}

struct EmbeddingCase {
  int64_t rows, columns, vocabulary;
  Layout layout;
  bool skewed;  // most places hold one token
};

std::vector<int32_t> tokens_of(const EmbeddingCase& c) {
  const Philox philox(99);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < c.rows; ++i) {
    const auto any =
        static_cast<int32_t>(philox.uniform(static_cast<uint64_t>(i)) * static_cast<double>(c.vocabulary));
    tokens.push_back(c.skewed && i % 10 != 0 ? static_cast<int32_t>(c.vocabulary / 2) : any);
  }
  // Outside the vocabulary.
  if (c.rows > 20) tokens[3] = -1, tokens[17] = static_cast<int32_t>(c.vocabulary), tokens[19] = -2147483647;
  return tokens;
}

template <class T>
void check_embedding(const EmbeddingCase& c) {
  INFO("embedding " << c.rows << " x " << c.columns << " of " << c.vocabulary << " " << name_of(c.layout)
                    << " skewed " << c.skewed);
  const std::vector<int32_t> tokens = tokens_of(c);
  const DeviceArray<int32_t> device_tokens(tokens);
  Matrix<T> weight(c.vocabulary, c.columns, c.layout, 1), y(c.rows, c.columns, c.layout, 0, 0);
  {
    kernels::EmbeddingForward<double> expected;
    kernels::EmbeddingForward<T> actual;
    expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
    expected.vocabulary = actual.vocabulary = c.vocabulary;
    expected.tokens = tokens.data(), actual.tokens = device_tokens.data();
    expected.weight = weight.host(), actual.weight = weight.device();
    expected.weight_stride = actual.weight_stride = weight.stride();
    expected.y = y.host(), actual.y = y.device(), expected.y_stride = actual.y_stride = y.stride();
    kernels::cpu::embedding_forward(expected);
    kernels::cuda::embedding_forward(actual);
  }
  y.check("y", {0, 0});
  Matrix<T> dy(c.rows, c.columns, c.layout, 2);
  Matrix<float> dweight(c.vocabulary, c.columns, c.layout, 3);
  kernels::EmbeddingBackward<double> expected;
  kernels::EmbeddingBackward<T> actual;
  expected.rows = actual.rows = c.rows, expected.columns = actual.columns = c.columns;
  expected.vocabulary = actual.vocabulary = c.vocabulary;
  expected.tokens = tokens.data(), actual.tokens = device_tokens.data();
  expected.dy = dy.host(), actual.dy = dy.device(), expected.dy_stride = actual.dy_stride = dy.stride();
  expected.dweight = dweight.host(), actual.dweight = dweight.device();
  expected.dweight_stride = actual.dweight_stride = dweight.stride();
  const DeviceArray<char> workspace(static_cast<size_t>(kernels::cuda::embedding_backward_workspace(actual)));
  actual.workspace = workspace.data();
  kernels::cpu::embedding_backward(expected);
  kernels::cuda::embedding_backward(actual);
  dweight.check("dweight");
  check_repeats<float>(std::vector<double>(static_cast<size_t>(c.vocabulary * dweight.stride() + 1), 0.5),
                       [&](float* out) {
                         actual.dweight = out;
                         kernels::cuda::embedding_backward(actual);
                       });
}

}  // namespace

TEST_CASE("cross_entropy") {
  for (const int64_t columns : {1, 5, 1000, 4096, 32000, 32001, 70000, 140000}) {
    for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
      if (columns > 40000 && layout != Layout::kDense) continue;
      check_cross_entropy<float>(columns, layout, true, 0);
      check_cross_entropy<bfloat16>(columns, layout, true, 0);
    }
    check_cross_entropy<float>(columns, Layout::kDense, false, 0);
    check_cross_entropy<bfloat16>(columns, Layout::kDense, false, 0);
  }
  check_cross_entropy<float>(1000, Layout::kDense, true, 500);
  check_cross_entropy<bfloat16>(1000, Layout::kDense, true, -500);
}

TEST_CASE("cross_entropy of logits that are not finite is NaN") {
  for (const int64_t columns : {70, 40000}) {
    std::vector<double> logits(static_cast<size_t>(2 * columns), 0.5);
    logits[60] = std::nan("");
    const DeviceArray<bfloat16> z(logits);
    const DeviceArray<int32_t> labels(std::vector<int32_t>{1, 1});
    const DeviceArray<float> nll(2);
    kernels::CrossEntropyParams<bfloat16> p;
    p.rows = 2, p.columns = columns, p.logits = z.data(), p.logits_stride = columns, p.labels = labels.data();
    p.nll = nll.data(), p.want_gradient = true;
    kernels::cuda::cross_entropy(p);
    CHECK(std::isnan(nll.to_doubles()[0]));
    CHECK(nll.to_doubles()[1] == Approx(std::log(static_cast<double>(columns))).epsilon(1e-6));
    CHECK(std::isnan(z.to_doubles()[5]));
  }
}

TEST_CASE("embedding") {
  for (const EmbeddingCase& c : {EmbeddingCase{1, 8, 3, Layout::kDense, false},
                                 {33, 100, 7, Layout::kDense, false},
                                 {31, 2048, 50, Layout::kStrided, true},
                                 {5000, 72, 7, Layout::kOdd, true},
                                 {5000, 264, 32000, Layout::kStrided, false},
                                 {9000, 40, 1000, Layout::kDense, true},
                                 {64, 8, 1, Layout::kDense, false},
                                 {20, 3000, 20, Layout::kDense, false}}) {
    check_embedding<float>(c);
    check_embedding<bfloat16>(c);
  }
}

TEST_CASE("embedding and losses of no rows do nothing") {
  kernels::EmbeddingBackward<float> backward;
  backward.columns = 8, backward.vocabulary = 10;
  CHECK(kernels::cuda::embedding_backward_workspace(backward) == 0);
  kernels::cuda::embedding_backward(backward);
  kernels::cuda::cross_entropy(kernels::CrossEntropyParams<float>());
  kernels::cuda::embedding_forward(kernels::EmbeddingForward<bfloat16>());
}

TEST_CASE("scaled_sum") {
  for (const int64_t count : {0, 1, 31, 5000, 1000003}) {
    const auto values = as_seen_in<float>(random_values(count, 5));
    const DeviceArray<float> x(values), y(1);
    kernels::ScaledSumParams<float> p;
    p.count = count, p.x = x.data(), p.factor = 0.25, p.y = y.data();
    kernels::cuda::scaled_sum(p);
    double sum = 0;
    for (const double value : values) sum += value;
    CHECK(y.to_doubles()[0] == Approx(0.25 * sum).epsilon(1e-7));
  }
}

TEST_CASE("scaled_add") {
  const auto check = [&]<class T>(Layout layout, bool accumulate, T) {
    Matrix<T> x(37, 200, layout, 1), y(37, 200, layout, 2, accumulate ? 1 : 0);
    Matrix<float> factor(1, 1, Layout::kDense, 3);
    kernels::ScaledAddParams<double> expected;
    kernels::ScaledAddParams<T> actual;
    expected.rows = actual.rows = 37, expected.columns = actual.columns = 200;
    expected.factor = factor.host(), actual.factor = factor.device();
    expected.x = x.host(), actual.x = x.device(), expected.x_stride = actual.x_stride = x.stride();
    expected.y = y.host(), actual.y = y.device(), expected.y_stride = actual.y_stride = y.stride();
    expected.accumulate = actual.accumulate = accumulate;
    kernels::cpu::scaled_add(expected);
    kernels::cuda::scaled_add(actual);
    CHECK(y.is_written());
    y.check("y");
  };
  for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
    for (const bool accumulate : {false, true}) {
      check(layout, accumulate, float());
      check(layout, accumulate, bfloat16());
    }
  }
}
