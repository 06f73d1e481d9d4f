// Heads that decay as a whole: the same as channels that all have their head's decay.
#include <cmath>

#include "gated_linear_attention_cases.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// q, k, v, gates of heads, initial state.
std::vector<Tensor> head_inputs(const AttentionSizes& s, int64_t tokens, int64_t slots, DType dtype) {
  auto inputs = attention_inputs(s, tokens, slots, dtype);
  inputs[3] = random_uniform({tokens, s.kv_heads}, dtype, 4, -1.0, 0.0);
  return inputs;
}

// [N, Hkv] -> [N, Hkv * K].
Tensor spread(const Tensor& gates, int64_t key_size) {
  const Tensor result = Tensor::empty({gates.rows(), gates.size(1) * key_size}, gates.dtype(), Device::kCpu);
  for (int64_t i = 0; i < result.size(1); ++i) {
    result.columns(i, 1).copy_from(gates.columns(i / key_size, 1));
  }
  return result;
}

auto by_heads(const AttentionSizes& s, const ops::SequenceLayout& layout) {
  return [=](const std::vector<Variable>& in) {
    const ops::StateDecay decay{{}, in[3], {}};
    const auto result =
        ops::gated_linear_attention(in[0], in[1], in[2], decay, in[4], layout, attention_options(s));
    return std::vector<Variable>{result.output, result.final_state};
  };
}

// Inputs without gates.
auto constant(const AttentionSizes& s, const ops::SequenceLayout& layout, const Tensor& log_decays) {
  return [=](const std::vector<Variable>& in) {
    const ops::StateDecay decay{{}, {}, log_decays};
    const auto result =
        ops::gated_linear_attention(in[0], in[1], in[2], decay, in[3], layout, attention_options(s));
    return std::vector<Variable>{result.output, result.final_state};
  };
}

}  // namespace

TEST_CASE("gated_linear_attention: gates of heads equal the same gates in all channels") {
  // Values of several tiles, too.
  for (const auto& [sizes, dtype] : {std::pair{AttentionSizes{4, 2, 9, 11}, DType::kF64},
                                     {AttentionSizes{1, 1, 256, 70}, DType::kF64},
                                     {AttentionSizes{4, 2, 9, 11}, DType::kF32},
                                     {AttentionSizes{1, 1, 256, 70}, DType::kF32}}) {
    CAPTURE(sizes.key_size);
    const auto layout = ops::SequenceLayout::cut_at(2, 70, {});
    const auto inputs = head_inputs(sizes, 140, 2, dtype);
    auto wide = inputs;
    wide[3] = spread(inputs[3], sizes.key_size);
    const auto actual = values_of(by_heads(sizes, layout)(constants(inputs)));
    const auto expected = values_of(attention(sizes, layout)(constants(wide)));
    for (size_t i = 0; i < 2; ++i) CHECK(same_bits(actual[i], expected[i]));
    const std::vector<Tensor> cotangents = {random_normal(actual[0].shape(), dtype, 11),
                                            random_normal(actual[1].shape(), dtype, 12)};
    const auto gradients = gradients_of(by_heads(sizes, layout), inputs, cotangents);
    const auto expected_gradients = gradients_of(attention(sizes, layout), wide, cotangents);
    for (const size_t i : {0, 1, 2, 4}) CHECK(same_bits(gradients[i], expected_gradients[i]));
    const Tensor summed = Tensor::zeros(inputs[3].shape(), dtype, Device::kCpu);
    for (int64_t i = 0; i < wide[3].size(1); ++i) {
      summed.columns(i / sizes.key_size, 1).add_from(expected_gradients[3].columns(i, 1));
    }
    const double tolerance = dtype == DType::kF64 ? 1e-14 : 1e-5;
    CHECK_CLOSE(gradients[3], summed, tolerance, 100 * tolerance);
  }
}

TEST_CASE("gated_linear_attention: constant decays equal gates that no token changes") {
  const AttentionSizes sizes{4, 2, 9, 11};
  const auto layout = ops::SequenceLayout::cut_at(2, 70, {});
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    auto inputs = head_inputs(sizes, 140, 2, dtype);
    const Tensor log_decays = inputs[3].narrow(0, 0, 1).clone().view(Shape{2});
    for (int64_t t = 0; t < 140; ++t) inputs[3].narrow(0, t, 1).copy_from(log_decays.view(Shape{1, 2}));
    const std::vector<Tensor> rest = {inputs[0], inputs[1], inputs[2], inputs[4]};
    const auto actual = values_of(constant(sizes, layout, log_decays)(constants(rest)));
    const auto expected = values_of(by_heads(sizes, layout)(constants(inputs)));
    for (size_t i = 0; i < 2; ++i) CHECK(same_bits(actual[i], expected[i]));
    const std::vector<Tensor> cotangents = {random_normal(actual[0].shape(), dtype, 11),
                                            random_normal(actual[1].shape(), dtype, 12)};
    const auto gradients = gradients_of(constant(sizes, layout, log_decays), rest, cotangents);
    const auto expected_gradients = gradients_of(by_heads(sizes, layout), inputs, cotangents);
    for (size_t i = 0; i < 4; ++i) CHECK(same_bits(gradients[i], expected_gradients[i < 3 ? i : 4]));
  }
}

TEST_CASE("gated_linear_attention: Jacobian where heads decay as a whole") {
  const AttentionSizes sizes{4, 2, 3, 2};
  ops::SequenceLayout layout;
  layout.offsets = {0, 0, 1, 5, 5, 12};
  layout.state_in = {3, -1, 2, 0, -1};
  layout.state_out = {0, -1, 3, 2, 1};
  layout.slots = 4;
  auto inputs = head_inputs(sizes, 12, 4, DType::kF64);
  check_gradients(by_heads(sizes, layout), inputs);
  inputs.erase(inputs.begin() + 3);
  const Tensor log_decays = Tensor::from<double>({2}, {-0.05, -1.0});
  check_gradients(constant(sizes, layout, log_decays), inputs);
}

TEST_CASE("gated_linear_attention refuses decays that do not fit") {
  const AttentionSizes sizes{2, 2, 3, 5};
  const auto layout = ops::SequenceLayout::uniform(2, 4);
  const auto inputs = head_inputs(sizes, 8, 2, DType::kF32);
  const auto with = [&](const ops::StateDecay& decay) {
    ops::gated_linear_attention(Variable(inputs[0]), Variable(inputs[1]), Variable(inputs[2]), decay,
                                Variable(inputs[4]), layout, attention_options(sizes));
  };
  const auto zeros = [](const Shape& shape, DType dtype) {
    return Tensor::zeros(shape, dtype, Device::kCpu);
  };
  CHECK_THROWS_WITH(with({{}, Variable(zeros({8, 6}, DType::kF32)), {}}),
                    contains("expected g of shape [8, 2]"));
  CHECK_THROWS_WITH(with({{}, {}, zeros({8}, DType::kF32)}), contains("expected g of shape [2]"));
  CHECK_THROWS_WITH(with({{}, {}, zeros({2}, DType::kF64)}), contains("expected g as f32"));
  CHECK_THROWS_WITH(with({{}, Variable(inputs[3]), zeros({2}, DType::kF32)}), contains("decays of one kind"));
}
