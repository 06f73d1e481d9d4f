#include "ops/residual.h"

#include "autograd/backward.h"
#include "autograd/saved_tensor.h"
#include "core/error.h"
#include "ops/elementwise.h"
#include "ops/gated_activation.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

// stream [rows, 17], x [rows, 5], weight [17, 5], norm weight [17].
std::vector<Tensor> random_inputs(int64_t rows) {
  return {random_normal({rows, 17}, DType::kF64, 1), random_normal({rows, 5}, DType::kF64, 2),
          random_normal({17, 5}, DType::kF64, 3), random_normal({17}, DType::kF64, 4)};
}

std::vector<Variable> fused(const std::vector<Variable>& in) {
  const auto result = ops::linear_add_rms_norm(in[0], in[1], in[2], in[3], 1e-6);
  return {result.hidden, result.normalised};
}

std::vector<Variable> in_two_steps(const std::vector<Variable>& in) {
  const Variable hidden = ops::linear_add(in[0], in[1], in[2]);
  return {hidden, ops::rms_norm(hidden, in[3], 1e-6)};
}

std::vector<Variable> composed(const std::vector<Variable>& in) {
  const Variable hidden = ops::add(in[0], ops::linear(in[1], in[2]));
  return {hidden, ops::rms_norm(hidden, in[3], 1e-6)};
}

}  // namespace

TEST_CASE("a product added to the residual stream equals its definition, value and gradients") {
  for (const int64_t rows : {1, 63, 64, 65, 129}) {
    const std::vector<Tensor> inputs = random_inputs(rows);
    const std::vector<Tensor> cotangents = {random_normal({rows, 17}, DType::kF64, 5),
                                            random_normal({rows, 17}, DType::kF64, 6)};
    const std::vector<Variable> leaves(inputs.begin(), inputs.end());
    const auto expected_values = composed(leaves);
    const auto expected = test::gradients_of(composed, inputs, cotangents);
    for (const auto& op : {fused, in_two_steps}) {
      const auto values = op(leaves);
      for (size_t i = 0; i < 2; ++i) CHECK_CLOSE(values[i].value(), expected_values[i].value(), 1e-14, 1e-12);
      const auto actual = test::gradients_of(op, inputs, cotangents);
      for (size_t i = 0; i < inputs.size(); ++i) CHECK_CLOSE(actual[i], expected[i], 1e-14, 1e-12);
    }
  }
}

TEST_CASE("a product added to the residual stream: Jacobian") {
  test::check_gradients(fused, random_inputs(3));
  std::vector<Tensor> without_norm = random_inputs(2);
  without_norm.pop_back();
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        return std::vector<Variable>{ops::linear_add(in[0], in[1], in[2])};
      },
      without_norm);
}

TEST_CASE("a product of a gated activation, added to the stream: the bits of its definition") {
  using Inputs = std::vector<Variable>;
  const auto function = ops::Activation::kSilu;
  const auto defined = [](const Inputs& in) {
    return Inputs{ops::linear_add(in[0], ops::gated_activation(in[1], function), in[2])};
  };
  const auto fused_gate = [](const Inputs& in) {
    return Inputs{ops::linear_add(in[0], {in[1], function}, in[2])};
  };
  const auto normed = [](const ops::ResidualNorm& result) {
    return Inputs{result.hidden, result.normalised};
  };
  const auto defined_norm = [&](const Inputs& in) {
    return normed(
        ops::linear_add_rms_norm(in[0], ops::gated_activation(in[1], function), in[2], in[3], 1e-6));
  };
  const auto fused_norm = [&](const Inputs& in) {
    return normed(ops::linear_add_rms_norm(in[0], {in[1], function}, in[2], in[3], 1e-6));
  };
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const int64_t rows : {1, 3, 70}) {
      // Odd widths: vectors with a rest.
      std::vector<Tensor> inputs = {random_normal({rows, 17}, dtype, 1),
                                    random_normal({rows, 2 * 37}, dtype, 2),
                                    random_normal({17, 37}, dtype, 3), random_normal({17}, dtype, 4)};
      const std::vector<Tensor> cotangents = {random_normal({rows, 17}, dtype, 5),
                                              random_normal({rows, 17}, dtype, 6)};
      const auto compare = [&](const test::DifferentiableFunction& definition,
                               const test::DifferentiableFunction& op) {
        const std::vector<Tensor> used(cotangents.begin(), cotangents.begin() + (inputs.size() == 4 ? 2 : 1));
        const auto expected = test::gradients_of(definition, inputs, used);
        const std::vector<Variable> leaves(inputs.begin(), inputs.end());
        CHECK_CLOSE(op(leaves)[0].value(), definition(leaves)[0].value(), 0, 0);
        for (const bool selective : {false, true}) {
          const SelectiveRecomputeScope scope(selective);
          const auto actual = test::gradients_of(op, inputs, used);
          for (size_t i = 0; i < inputs.size(); ++i) CHECK_CLOSE(actual[i], expected[i], 0, 0);
        }
      };
      compare(defined_norm, fused_norm);
      inputs.pop_back();
      compare(defined, fused_gate);
    }
  }
  test::check_gradients(fused_gate,
                        {random_normal({2, 3}, DType::kF64, 1), random_normal({2, 2 * 5}, DType::kF64, 2),
                         random_normal({3, 5}, DType::kF64, 3)});
  // Gradients that nobody wants are left out, also that of the pass that would make the product's input.
  for (const bool selective : {false, true}) {
    const SelectiveRecomputeScope scope(selective);
    const Tensor stream = random_normal({4, 3}, DType::kF64, 1),
                 gate_up = random_normal({4, 10}, DType::kF64, 2),
                 weight = random_normal({3, 5}, DType::kF64, 3), dy = random_normal({4, 3}, DType::kF64, 4);
    const auto all = test::gradients_of(fused_gate, {stream, gate_up, weight}, {dy});
    const auto of_weight = test::gradients_of(
        [&](const Inputs& in) {
          return fused_gate({Variable(stream), Variable(gate_up), in[0]});
        },
        {weight}, {dy});
    const auto of_gate_up = test::gradients_of(
        [&](const Inputs& in) {
          return fused_gate({Variable(stream), in[0], Variable(weight)});
        },
        {gate_up}, {dy});
    CHECK_CLOSE(of_weight[0], all[2], 0, 0);
    CHECK_CLOSE(of_gate_up[0], all[1], 0, 0);
  }
  CHECK_THROWS_WITH(ops::linear_add(Variable(random_normal({2, 3}, DType::kF32, 1)),
                                    {Variable(random_normal({2, 5}, DType::kF32, 2)), function},
                                    Variable(random_normal({3, 2}, DType::kF32, 3))),
                    test::contains("[linear_add] expected gate_up of shape [..., 2 I], got [2, 5]"));
}

TEST_CASE("a product of a gated activation needs no more memory than its definition, and keeps less") {
  constexpr int64_t kRows = 512, kHidden = 64, kWidth = 172;  // a layer's proportions
  const auto bytes_of = [&](bool gated_before, bool selective) {
    const SelectiveRecomputeScope scope(selective);
    const auto leaf = [](const Shape& shape, uint64_t seed) {
      return Variable(random_normal(shape, DType::kF32, seed), true);
    };
    const Variable start = leaf({kRows, kHidden}, 1), wide = leaf({2 * kWidth, kHidden}, 2);
    const Variable narrow = leaf({kHidden, kWidth}, 3), scale = leaf({kHidden}, 4);
    const Variable factor(random_normal({kRows, kHidden}, DType::kF32, 5));
    allocator_of(Device::kCpu).reset_peak();
    const auto bytes = [] { return allocator_of(Device::kCpu).statistics(); };
    const int64_t before = bytes().current;
    Variable y;
    {
      const Variable x = ops::multiply(start, factor);
      const Variable gate_up = ops::linear(x, wide);
      const ops::ProductInput input = gated_before ? ops::ProductInput(ops::swiglu(gate_up))
                                                   : ops::ProductInput(gate_up, ops::Activation::kSilu);
      const auto result = ops::linear_add_rms_norm(x, input, narrow, scale, 1e-6);
      y = ops::add(ops::multiply(result.hidden, factor), ops::multiply(result.normalised, factor));
    }
    const int64_t kept = bytes().current - before;
    backward({y}, {factor.value()});
    return std::pair{kept, bytes().peak - before};
  };
  const auto [kept_all, peak_of_all] = bytes_of(false, false);
  const auto [kept, peak] = bytes_of(false, true);
  CHECK(kept_all - kept >= kRows * kWidth * 4);
  CHECK(peak_of_all <= bytes_of(true, false).second);
  CHECK(peak <= bytes_of(true, true).second);
}

TEST_CASE("linear_add_rms_norm refuses shapes that do not fit") {
  const Variable stream(random_normal({2, 4}, DType::kF32, 1)), x(random_normal({2, 3}, DType::kF32, 2)),
      weight(random_normal({4, 3}, DType::kF32, 3));
  CHECK_THROWS_WITH(ops::linear_add(Variable(random_normal({3, 4}, DType::kF32, 1)), x, weight),
                    test::contains("[linear_add] expected stream of shape [2, 4], got [3, 4]"));
  CHECK_THROWS_WITH(ops::linear_add(Variable(random_normal({2, 4}, DType::kF64, 1)), x, weight),
                    test::contains("[linear_add] expected a stream of"));
  CHECK_THROWS_WITH(
      ops::linear_add_rms_norm(stream, x, weight, Variable(random_normal({5}, DType::kF32, 4)), 1e-6),
      test::contains("[linear_add_rms_norm] expected weight of shape [4], got [5]"));
}
