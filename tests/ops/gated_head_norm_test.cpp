#include "ops/gated_head_norm.h"

#include <omp.h>

#include <cmath>

#include "core/error.h"
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

auto gated(int64_t heads) {
  return [heads](const std::vector<Variable>& in) {
    return std::vector<Variable>{ops::gated_head_norm(in[0], in[1], in[2], heads, 1e-3)};
  };
}

}  // namespace

TEST_CASE("gated_head_norm: Jacobian") {
  struct Case {
    int64_t rows, heads, head_size;
  };
  for (const auto& [rows, heads, head_size] : {Case{1, 1, 1}, {3, 2, 7}, {65, 1, 3}, {2, 3, 17}}) {
    CAPTURE(rows, heads, head_size);
    test::check_gradients(gated(heads), {random_normal({rows, heads * head_size}, DType::kF64, 1),
                                         random_normal({rows, heads * head_size}, DType::kF64, 2, 2.0),
                                         random_normal({head_size}, DType::kF64, 3)});
  }
}

TEST_CASE("gated_head_norm without gate, without weight, on slices used twice") {
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {6, 1, 6});
        return std::vector<Variable>{ops::gated_head_norm(parts[0], Variable(), Variable(), 2, 1e-3),
                                     ops::gated_head_norm(parts[2], parts[0], Variable(), 2, 1e-3),
                                     ops::gated_head_norm(parts[0], parts[2], in[1], 2, 1e-3),
                                     ops::gated_head_norm(parts[2], Variable(), in[1], 2, 1e-3)};
      },
      {random_normal({4, 13}, DType::kF64, 1), random_normal({3}, DType::kF64, 2)});
}

TEST_CASE("gated_head_norm equals its definition, value and gradients") {
  // SiLU from its formula; heads as rows of rms_norm. The gradient of the gate is the Jacobian test's.
  const int64_t heads = 3, size = 5;
  for (const int64_t rows : {1, 63, 64, 65, 16385}) {
    CAPTURE(rows);
    const std::vector<Tensor> inputs = {random_normal({rows, heads * size}, DType::kF64, 1),
                                        random_normal({size}, DType::kF64, 2)};
    const Tensor gate = random_normal({rows, heads * size}, DType::kF64, 3);
    const Tensor silu = gate.clone();
    for (int64_t i = 0; i < silu.numel(); ++i) {
      double& value = silu.data<double>()[i];
      value = value / (1 + std::exp(-value));
    }
    const Tensor cotangent = random_normal({rows, heads * size}, DType::kF64, 4);
    const Shape by_head{rows * heads, size};
    const auto fused = [&](const std::vector<Variable>& in) {
      return std::vector<Variable>{ops::gated_head_norm(in[0], Variable(gate), in[1], heads, 1e-6)};
    };
    const auto composed = [&](const std::vector<Variable>& in) {
      return std::vector<Variable>{
          ops::multiply(ops::rms_norm(in[0], in[1], 1e-6), Variable(silu.view(by_head)))};
    };
    const auto actual = test::gradients_of(fused, inputs, {cotangent});
    const auto expected =
        test::gradients_of(composed, {inputs[0].view(by_head), inputs[1]}, {cotangent.view(by_head)});
    CHECK_CLOSE(actual[0].view(by_head), expected[0], 1e-14, 1e-12);
    CHECK_CLOSE(actual[1], expected[1], 1e-13, 1e-11);
    const NoGradScope no_grad;
    CHECK_CLOSE(fused({Variable(inputs[0]), Variable(inputs[1])})[0].value().view(by_head),
                composed({Variable(inputs[0].view(by_head)), Variable(inputs[1])})[0].value(), 1e-14, 1e-12);
  }
}

TEST_CASE("gated_head_norm: f32 against f64, and the same bits on any number of threads") {
  std::vector<Tensor> inputs, rounded;
  for (const Tensor& input :
       {random_normal({700, 4 * 60}, DType::kF32, 1), random_normal({700, 4 * 60}, DType::kF32, 2),
        random_normal({60}, DType::kF32, 3)}) {
    rounded.push_back(input);
    inputs.push_back(input.to(DType::kF64));
  }
  const Tensor cotangent = random_normal({700, 4 * 60}, DType::kF32, 4);
  const auto expected = test::gradients_of(gated(4), inputs, {cotangent.to(DType::kF64)});
  const int threads = omp_get_max_threads();
  const auto actual = test::gradients_of(gated(4), rounded, {cotangent});
  omp_set_num_threads(1);
  const auto single = test::gradients_of(gated(4), rounded, {cotangent});
  omp_set_num_threads(threads);
  for (size_t i = 0; i < 3; ++i) {
    CHECK_CLOSE(actual[i], expected[i], 1e-6, 1e-4);
    CHECK(actual[i].to_vector<float>() == single[i].to_vector<float>());
  }
}

TEST_CASE("gated_head_norm: large gates of both signs stay finite") {
  const Tensor o = Tensor::from<float>({1, 4}, {1, -1, 1, -1});
  const Tensor gate = Tensor::from<float>({1, 4}, {-1e4f, -100.0f, 100.0f, 1e4f});
  const auto gradients = test::gradients_of(gated(1), {o, gate, Tensor::from<float>({4}, {1, 1, 1, 1})},
                                            {Tensor::from<float>({1, 4}, {1, 1, 1, 1})});
  for (const Tensor& gradient : gradients) {
    for (const float value : gradient.to_vector<float>()) CHECK(std::isfinite(value));
  }
}

TEST_CASE("gated_head_norm refuses shapes that do not fit") {
  const Variable o(random_normal({2, 6}, DType::kF32, 1));
  const auto norm = [&](const Shape& gate, const Shape& weight, int64_t heads) {
    ops::gated_head_norm(o, Variable(random_normal(gate, DType::kF32, 1)),
                         Variable(random_normal(weight, DType::kF32, 1)), heads, 1e-6);
  };
  CHECK_THROWS_WITH(norm({2, 6}, {3}, 4),
                    test::contains("[gated_head_norm] expected o of shape [..., 4 heads * D], got [2, 6]"));
  CHECK_THROWS_WITH(norm({2, 5}, {3}, 2),
                    test::contains("[gated_head_norm] expected gate of shape [2, 6], got [2, 5]"));
  CHECK_THROWS_WITH(norm({2, 6}, {6}, 2),
                    test::contains("[gated_head_norm] expected weight of shape [3], got [6]"));
  CHECK_THROWS_WITH(
      ops::gated_head_norm(o, Variable(random_normal({2, 6}, DType::kF64, 1)), Variable(), 2, 1e-6),
      test::contains("[gated_head_norm] expected gate as f32"));
}
