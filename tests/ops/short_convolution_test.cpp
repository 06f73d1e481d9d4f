#include "ops/short_convolution.h"

#include <omp.h>

#include <cmath>

#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

auto convolution(const ops::SequenceLayout& layout, bool silu = true) {
  return [=](const std::vector<Variable>& in) {
    const auto result = ops::short_convolution(in[0], in[1], in[2], layout, true, silu);
    return std::vector<Variable>{result.output, result.final_state};
  };
}

std::vector<Tensor> convolution_inputs(int64_t tokens, int64_t channels, int64_t width, int64_t slots,
                                       DType dtype) {
  return {random_normal({tokens, channels}, dtype, 1), random_normal({channels, width}, dtype, 2),
          random_normal({slots, width - 1, channels}, dtype, 3)};
}

std::vector<Tensor> values_of(const ops::SequenceLayout& layout, const std::vector<Tensor>& inputs) {
  const auto outputs = convolution(layout)({Variable(inputs[0]), Variable(inputs[1]), Variable(inputs[2])});
  return {outputs[0].value(), outputs[1].value()};
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.to_vector<float>() == b.to_vector<float>();
}

// Sequences of 0, 1, 5, 0 and 2 tokens, shorter and longer than a window of 4; slot 1 read by none.
ops::SequenceLayout mixed_layout() {
  ops::SequenceLayout layout;
  layout.offsets = {0, 0, 1, 6, 6, 8};
  layout.state_in = {3, -1, 2, 4, 0};
  layout.state_out = {0, 2, -1, 4, 3};
  layout.slots = 5;
  return layout;
}

}  // namespace

TEST_CASE("short_convolution equals its definition") {
  const auto layout = mixed_layout();
  const int64_t channels = 3, width = 4;
  const auto inputs = convolution_inputs(8, channels, width, 5, DType::kF64);
  const auto actual = values_of(layout, inputs);
  const auto x = inputs[0].to_vector<double>(), w = inputs[1].to_vector<double>(),
             state = inputs[2].to_vector<double>();
  std::vector<double> output(8 * channels), last(5 * (width - 1) * channels, 0.0);
  for (size_t s = 0; s < 5; ++s) {
    for (int64_t c = 0; c < channels; ++c) {
      // What the sequence sees: its state, then its tokens.
      std::vector<double> seen;
      for (int64_t i = 0; i < width - 1; ++i) {
        seen.push_back(layout.state_in[s] < 0 ? 0.0
                                              : state[(layout.state_in[s] * (width - 1) + i) * channels + c]);
      }
      for (int64_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t) {
        seen.push_back(x[t * channels + c]);
        double u = 0;
        for (int64_t j = 0; j < width; ++j) u += w[c * width + j] * seen[seen.size() - width + j];
        output[t * channels + c] = u / (1 + std::exp(-u));
      }
      if (layout.state_out[s] < 0) continue;
      for (int64_t i = 0; i < width - 1; ++i) {
        last[(layout.state_out[s] * (width - 1) + i) * channels + c] = seen[seen.size() - width + 1 + i];
      }
    }
  }
  CHECK_CLOSE(actual[0], Tensor::from<double>({8, channels}, output), 1e-15, 1e-14);
  CHECK_CLOSE(actual[1], Tensor::from<double>({5, width - 1, channels}, last), 0, 0);
}

TEST_CASE("short_convolution: Jacobian, with states in and out") {
  for (const int64_t width : {1, 2, 4, 5}) {
    for (const bool silu : {true, false}) {
      CAPTURE(width, silu);
      if (width > 1) {
        test::check_gradients(convolution(mixed_layout(), silu),
                              convolution_inputs(8, 3, width, 5, DType::kF64));
      }
      const auto inputs = convolution_inputs(70, 2, width, 1, DType::kF64);
      test::check_gradients(
          [&](const std::vector<Variable>& in) {
            const auto layout = ops::SequenceLayout::uniform(1, 70);
            return std::vector<Variable>{
                ops::short_convolution(in[0], in[1], Variable(), layout, false, silu).output};
          },
          {inputs[0], inputs[1]});
    }
  }
}

TEST_CASE("short_convolution: gradient through the final state alone") {
  const auto layout = mixed_layout();
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        return std::vector<Variable>{ops::short_convolution(in[0],
                                                            Variable(random_normal({3, 4}, DType::kF64, 9)),
                                                            in[1], layout, true)
                                         .final_state};
      },
      {random_normal({8, 3}, DType::kF64, 1), random_normal({5, 3, 3}, DType::kF64, 2)});
}

TEST_CASE("short_convolution on a slice that is used twice, and a slot that starts two sequences") {
  ops::SequenceLayout layout;
  layout.offsets = {0, 3, 6};
  layout.state_in = {1, 1};
  layout.state_out = {1, 0};
  layout.slots = 2;
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {1, 4});
        return std::vector<Variable>{
            ops::short_convolution(parts[1], in[1], in[2], layout, false).output,
            ops::short_convolution(parts[1], in[1], in[2], layout, false, false).output};
      },
      {random_normal({6, 5}, DType::kF64, 1), random_normal({4, 3}, DType::kF64, 2),
       random_normal({2, 2, 4}, DType::kF64, 3)});
}

TEST_CASE("short_convolution: packed, split and step by step give the same bits") {
  const int64_t channels = 33, length = 200;
  const auto inputs = convolution_inputs(2 * length, channels, 4, 2, DType::kF32);
  const auto whole = values_of(ops::SequenceLayout::uniform(2, length), inputs);
  Tensor state = inputs[2];
  const Tensor rows = inputs[0].view(Shape{2, length * channels});
  for (int64_t t = 0; t < length;) {
    const int64_t count = t < 6 ? 1 : std::min<int64_t>(length - t, 61);
    const Tensor part =
        rows.columns(t * channels, count * channels).contiguous().view(Shape{2 * count, channels});
    const auto step = values_of(ops::SequenceLayout::uniform(2, count), {part, inputs[1], state});
    const Tensor expected =
        whole[0].view(Shape{2, length * channels}).columns(t * channels, count * channels);
    CHECK(equal(step[0].view(Shape{2, count * channels}), expected.contiguous()));
    state = step[1];
    t += count;
  }
  CHECK(equal(state, whole[1]));
}

TEST_CASE("short_convolution: f32 against f64, and the same bits on any number of threads") {
  const int64_t tokens = 5000;
  const auto layout = ops::SequenceLayout::uniform(2, tokens / 2);
  std::vector<Tensor> inputs, rounded = convolution_inputs(tokens, 40, 4, 2, DType::kF32);
  for (const Tensor& input : rounded) inputs.push_back(input.to(DType::kF64));
  const std::vector<Tensor> cotangents = {random_normal({tokens, 40}, DType::kF32, 4),
                                          random_normal({2, 3, 40}, DType::kF32, 5)};
  const auto expected = test::gradients_of(convolution(layout), inputs,
                                           {cotangents[0].to(DType::kF64), cotangents[1].to(DType::kF64)});
  const auto actual = test::gradients_of(convolution(layout), rounded, cotangents);
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto single = test::gradients_of(convolution(layout), rounded, cotangents);
  omp_set_num_threads(threads);
  for (size_t i = 0; i < 3; ++i) {
    CHECK_CLOSE(actual[i], expected[i], 1e-6, 1e-4);
    CHECK(equal(actual[i], single[i]));
  }
}

TEST_CASE("short_convolution refuses arguments that do not fit") {
  const auto layout = ops::SequenceLayout::uniform(2, 4);
  const auto run = [&](const Shape& x, const Shape& weight, const Shape& state) {
    convolution(layout)({Variable(random_normal(x, DType::kF32, 1)),
                         Variable(random_normal(weight, DType::kF32, 1)),
                         Variable(random_normal(state, DType::kF32, 1))});
  };
  CHECK_THROWS_WITH(run({8, 5}, {6, 4}, {2, 3, 6}),
                    test::contains("[short_convolution] expected x of shape [N, 6], got [8, 5]"));
  CHECK_THROWS_WITH(run({8, 6}, {6, 1, 4}, {2, 3, 6}),
                    test::contains("expected weight of rank 2, got shape [6, 1, 4]"));
  CHECK_THROWS_WITH(run({8, 6}, {6, 0}, {2, 3, 6}), test::contains("W of at least 1, got [6, 0]"));
  CHECK_THROWS_WITH(run({8, 6}, {6, 4}, {2, 4, 6}),
                    test::contains("expected initial_state of shape [2, 3, 6], got [2, 4, 6]"));
  CHECK_THROWS_WITH(run({9, 6}, {6, 4}, {2, 3, 6}), test::contains("the batch has 9 tokens"));
}
