#include "gated_linear_attention_cases.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("gated_linear_attention: Jacobian around the edges of a chunk") {
  for (const int64_t length : {1, 2, 63, 64, 65, 130}) {
    CAPTURE(length);
    const AttentionSizes sizes{1, 1, 2, 3};
    check_gradients(attention(sizes, ops::SequenceLayout::uniform(1, length)),
                    attention_inputs(sizes, length, 1, DType::kF64));
  }
}

TEST_CASE("gated_linear_attention: Jacobian of packed sequences with grouped heads and states") {
  const AttentionSizes sizes{4, 2, 3, 2};
  ops::SequenceLayout layout;
  layout.offsets = {0, 0, 1, 5, 5, 12};
  layout.state_in = {3, -1, 2, 0, -1};
  layout.state_out = {0, -1, 3, 2, 1};
  layout.slots = 4;
  check_gradients(attention(sizes, layout), attention_inputs(sizes, 12, 4, DType::kF64));
}

TEST_CASE("gated_linear_attention: Jacobian with key and value sizes that are no multiple of a vector") {
  for (const AttentionSizes sizes : {AttentionSizes{1, 1, 17, 9}, {2, 1, 1, 1}, {1, 1, 8, 16}}) {
    CAPTURE(sizes.key_size, sizes.value_size);
    check_gradients(attention(sizes, ops::SequenceLayout::uniform(2, 3)),
                    attention_inputs(sizes, 6, 2, DType::kF64));
  }
}

TEST_CASE("gated_linear_attention: gradient over several tiles of values") {
  const AttentionSizes sizes{2, 1, 256, 20};
  const auto layout = ops::SequenceLayout::uniform(1, 70);
  check_directional_gradient(attention(sizes, layout), attention_inputs(sizes, 70, 1, DType::kF64));
}

TEST_CASE("gated_linear_attention: gradient under strong gates") {
  for (const double gate : {-10.0, -50.0}) {
    const AttentionSizes sizes{1, 1, 3, 2};
    auto inputs = attention_inputs(sizes, 6, 1, DType::kF64);
    for (int64_t i = 0; i < inputs[3].numel(); i += 2) inputs[3].data<double>()[i] = gate;
    check_gradients(attention(sizes, ops::SequenceLayout::uniform(1, 6)), inputs);
  }
}

TEST_CASE("gated_linear_attention: gradient without gates and without a state") {
  const AttentionSizes sizes{2, 1, 3, 2};
  const auto layout = ops::SequenceLayout::uniform(2, 5);
  auto inputs = attention_inputs(sizes, 10, 2, DType::kF64);
  inputs.resize(3);
  check_gradients(
      [&](const std::vector<Variable>& in) {
        auto options = attention_options(sizes);
        options.want_final_state = false;
        return std::vector<Variable>{
            ops::gated_linear_attention(in[0], in[1], in[2], Variable(), Variable(), layout, options).output};
      },
      inputs);
}

TEST_CASE("gated_linear_attention: gradient through the final state alone") {
  const AttentionSizes sizes{2, 2, 3, 2};
  const auto layout = ops::SequenceLayout::uniform(2, 5);
  check_gradients(
      [&](const std::vector<Variable>& in) { return std::vector<Variable>{attention(sizes, layout)(in)[1]}; },
      attention_inputs(sizes, 10, 2, DType::kF64));
}

TEST_CASE("gated_linear_attention on slices of one projection, one of them used twice") {
  const AttentionSizes sizes{2, 2, 2, 3};
  const auto layout = ops::SequenceLayout::uniform(2, 3);
  check_gradients(
      [&](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {4, 6, 4});
        return attention(sizes, layout)({parts[0], parts[0], parts[1], parts[2], in[1]});
      },
      {random_normal({6, 14}, DType::kF64, 1, 0.5), random_normal({2, 2, 2, 3}, DType::kF64, 2)});
}

TEST_CASE("gated_linear_attention: two segments with the state carried equal the whole, gradients too") {
  const AttentionSizes sizes{2, 1, 5, 7};
  const int64_t first = 70, length = 150;
  const auto whole_layout = ops::SequenceLayout::uniform(1, length);
  const auto inputs = attention_inputs(sizes, length, 1, DType::kF64, -0.1);
  const Tensor d_output = random_normal({length, 14}, DType::kF64, 11);
  const Tensor d_final = random_normal(inputs[4].shape(), DType::kF64, 12);
  const auto rows = [](const std::vector<Tensor>& tensors, int64_t begin, int64_t count) {
    std::vector<Tensor> parts;
    for (size_t i = 0; i < 4; ++i) parts.push_back(tensors[i].narrow(0, begin, count));
    return parts;
  };
  // The segments are joined by the tape: the second's gradient reaches the first through its final state.
  std::vector<Tensor> leaves = rows(inputs, 0, first);
  for (const Tensor& part : rows(inputs, first, length - first)) leaves.push_back(part);
  leaves.push_back(inputs[4]);
  const auto segments = [&](const std::vector<Variable>& in) {
    const auto head =
        attention(sizes, ops::SequenceLayout::uniform(1, first))({in[0], in[1], in[2], in[3], in[8]});
    const auto tail = attention(
        sizes, ops::SequenceLayout::uniform(1, length - first))({in[4], in[5], in[6], in[7], head[1]});
    return std::vector<Variable>{head[0], tail[0], tail[1]};
  };
  const auto whole = values_of(attention(sizes, whole_layout)(constants(inputs)));
  const auto parts = values_of(segments(constants(leaves)));
  CHECK(same_bits(parts[0], whole[0].narrow(0, 0, first)));
  CHECK(same_bits(parts[1], whole[0].narrow(0, first, length - first)));
  CHECK(same_bits(parts[2], whole[1]));
  const auto expected = gradients_of(attention(sizes, whole_layout), inputs, {d_output, d_final});
  const auto actual = gradients_of(
      segments, leaves, {d_output.narrow(0, 0, first), d_output.narrow(0, first, length - first), d_final});
  for (size_t i = 0; i < 4; ++i) {
    CHECK_CLOSE(actual[i], expected[i].narrow(0, 0, first), 1e-12, 1e-12);
    CHECK_CLOSE(actual[i + 4], expected[i].narrow(0, first, length - first), 1e-12, 1e-12);
  }
  CHECK_CLOSE(actual[8], expected[4], 1e-12, 1e-12);
}

TEST_CASE("gated_linear_attention: the gates' gradient agrees with its closed form") {
  // dg_t = sum_{s >= t} (q_s . dq_s - k_s . dk_s) + rowsum_V(S_T . dS_T)
  const AttentionSizes sizes{1, 1, 6, 5};
  const int64_t length = 200;
  const auto inputs = attention_inputs(sizes, length, 1, DType::kF64, -0.2);
  const auto run = attention(sizes, ops::SequenceLayout::uniform(1, length));
  const Tensor d_final = random_normal({1, 1, 6, 5}, DType::kF64, 12);
  const auto gradients = gradients_of(run, inputs, {random_normal({length, 5}, DType::kF64, 11), d_final});
  const Tensor final_state = values_of(run(constants(inputs)))[1];
  const auto q = inputs[0].to_vector<double>(), k = inputs[1].to_vector<double>();
  const auto dq = gradients[0].to_vector<double>(), dk = gradients[1].to_vector<double>();
  const auto state = final_state.to_vector<double>(), d_state = d_final.to_vector<double>();
  std::vector<double> dg(static_cast<size_t>(length * 6));
  for (size_t i = 0; i < 6; ++i) {
    double sum = 0;
    for (size_t j = 0; j < 5; ++j) sum += state[i * 5 + j] * d_state[i * 5 + j];
    for (size_t t = static_cast<size_t>(length); t-- > 0;) {
      sum += q[t * 6 + i] * dq[t * 6 + i] - k[t * 6 + i] * dk[t * 6 + i];
      dg[t * 6 + i] = sum;
    }
  }
  CHECK_CLOSE(gradients[3], Tensor::from<double>({length, 6}, dg), 1e-12, 1e-10);
}

TEST_CASE("gated_linear_attention: f32 against f64, values and gradients") {
  for (const AttentionSizes sizes : {AttentionSizes{4, 4, 32, 64}, {4, 2, 60, 20}}) {
    const auto layout = ops::SequenceLayout::uniform(2, 130);
    std::vector<Tensor> inputs, rounded, cotangents;
    for (const Tensor& input : attention_inputs(sizes, 260, 2, DType::kF32)) {
      rounded.push_back(input);
      inputs.push_back(input.to(DType::kF64));
    }
    const Tensor d_output = random_normal({260, sizes.heads * sizes.value_size}, DType::kF32, 11);
    const Tensor d_final = random_normal(rounded[4].shape(), DType::kF32, 12);
    const auto expected = values_of(attention(sizes, layout)(constants(inputs)));
    const auto actual = values_of(attention(sizes, layout)(constants(rounded)));
    for (size_t i = 0; i < 2; ++i) CHECK_CLOSE(actual[i], expected[i], 1e-6, 1e-4);
    const auto d_expected =
        gradients_of(attention(sizes, layout), inputs, {d_output.to(DType::kF64), d_final.to(DType::kF64)});
    const auto d_actual = gradients_of(attention(sizes, layout), rounded, {d_output, d_final});
    for (size_t i = 0; i < 5; ++i) CHECK_CLOSE(d_actual[i], d_expected[i], 1e-6, 1e-4);
  }
}
