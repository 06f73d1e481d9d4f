#include "ops/gated_linear_attention.h"

#include <omp.h>

#include "core/error.h"
#include "gated_linear_attention_cases.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// {output, final state} in f64 by the parallel form, which shares no step with the recurrence:
//   o_i = scale * (sum_{j <= i} <q_i, e^{b_i - b_j} k_j> v_j + (q_i . e^{b_i}) S_0),   b_i = sum_{j <= i}
//   g_j, S_T = Diag(e^{b_T}) S_0 + sum_j (e^{b_T - b_j} k_j)^T v_j.
std::vector<Tensor> parallel_form(const std::vector<Tensor>& inputs, const AttentionSizes& z,
                                  const ops::SequenceLayout& layout) {
  std::vector<std::vector<double>> in;
  for (const Tensor& input : inputs) in.push_back(input.to(DType::kF64).to_vector<double>());
  const auto &q = in[0], &k = in[1], &v = in[2], &g = in[3], &start = in[4];
  const int64_t K = z.key_size, V = z.value_size, tokens = layout.tokens();
  std::vector<double> output(static_cast<size_t>(tokens * z.heads * V), 0.0);
  std::vector<double> final_state(static_cast<size_t>(layout.slots * z.kv_heads * K * V), 0.0);
  // Long: differences of large sums of gates must not lose the small ones.
  std::vector<long double> sums(static_cast<size_t>((tokens + 1) * K));
  const auto at = [](int64_t index) { return static_cast<size_t>(index); };
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    const int64_t begin = layout.offsets[at(s)], end = layout.offsets[at(s + 1)];
    const int64_t slot_in = layout.state_in[at(s)], slot_out = layout.state_out[at(s)];
    for (int64_t h = 0; h < z.heads; ++h) {
      const int64_t kv = h / (z.heads / z.kv_heads);
      const auto key = [&](int64_t t, int64_t i) { return k[at((t * z.kv_heads + kv) * K + i)]; };
      const auto value = [&](int64_t t, int64_t j) { return v[at((t * z.kv_heads + kv) * V + j)]; };
      const auto b = [&](int64_t t, int64_t i) -> long double& { return sums[at((t - begin + 1) * K + i)]; };
      const auto decay = [&](int64_t from, int64_t to, int64_t i) {
        return std::exp(static_cast<double>(b(to, i) - b(from, i)));
      };
      const auto start_at = [&](int64_t i, int64_t j) {
        return slot_in < 0 ? 0.0 : start[at(((slot_in * z.kv_heads + kv) * K + i) * V + j)];
      };
      for (int64_t i = 0; i < K; ++i) b(begin - 1, i) = 0;
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < K; ++i) b(t, i) = b(t - 1, i) + g[at((t * z.kv_heads + kv) * K + i)];
      }
      for (int64_t t = begin; t < end; ++t) {
        double* o = output.data() + (t * z.heads + h) * V;
        const double* query = q.data() + (t * z.heads + h) * K;
        for (int64_t past = begin; past <= t; ++past) {
          double p = 0;
          for (int64_t i = 0; i < K; ++i) p += query[i] * key(past, i) * decay(past, t, i);
          for (int64_t j = 0; j < V; ++j) o[j] += p * value(past, j);
        }
        for (int64_t i = 0; i < K; ++i) {
          for (int64_t j = 0; j < V; ++j) o[j] += query[i] * decay(begin - 1, t, i) * start_at(i, j);
        }
        for (int64_t j = 0; j < V; ++j) o[j] /= std::sqrt(static_cast<double>(K));
      }
      if (slot_out < 0) continue;
      for (int64_t i = 0; i < K; ++i) {
        for (int64_t j = 0; j < V; ++j) {
          double state = decay(begin - 1, end - 1, i) * start_at(i, j);
          for (int64_t t = begin; t < end; ++t) {
            state += decay(t, end - 1, i) * key(t, i) * value(t, j);
          }
          final_state[at(((slot_out * z.kv_heads + kv) * K + i) * V + j)] = state;
        }
      }
    }
  }
  return {Tensor::from<double>({tokens, z.heads * V}, output),
          Tensor::from<double>({layout.slots, z.kv_heads, K, V}, final_state)};
}

}  // namespace

TEST_CASE("gated_linear_attention equals the parallel form") {
  for (const int64_t length : {1, 15, 63, 64, 65, 1000}) {
    // Key and value sizes of one, below, at and above whole vectors, and values of more than one tile.
    for (const AttentionSizes sizes :
         {AttentionSizes{2, 1, 1, 1}, {1, 1, 5, 7}, {2, 2, 16, 8}, {1, 1, 3, 70}}) {
      CAPTURE(length, sizes.key_size, sizes.value_size);
      const auto layout = ops::SequenceLayout::uniform(2, length);
      const auto inputs = attention_inputs(sizes, 2 * length, 2, DType::kF64, -0.3);
      const auto actual = values_of(attention(sizes, layout)(constants(inputs)));
      const auto expected = parallel_form(inputs, sizes, layout);
      CHECK_CLOSE(actual[0], expected[0], 1e-13, 1e-11);
      CHECK_CLOSE(actual[1], expected[1], 1e-13, 1e-11);
    }
  }
}

TEST_CASE("gated_linear_attention is right for gates from none to total") {
  const AttentionSizes sizes{2, 2, 6, 5};
  const auto layout = ops::SequenceLayout::uniform(2, 150);
  auto inputs = attention_inputs(sizes, 300, 2, DType::kF64);
  const double gates[] = {0.0, -1e-3, -1.0, -10.0, -50.0, -1e4};
  const auto choice = random_integers(inputs[3].shape(), 9, 0, 6).to_vector<int32_t>();
  for (size_t i = 0; i < choice.size(); ++i) inputs[3].data<double>()[i] = gates[choice[i]];
  const auto expected = parallel_form(inputs, sizes, layout);
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    std::vector<Tensor> rounded;
    for (const Tensor& input : inputs) rounded.push_back(input.to(dtype));
    const auto actual = values_of(attention(sizes, layout)(constants(rounded)));
    const double rms = dtype == DType::kF64 ? 1e-12 : 1e-6;
    CHECK_CLOSE(actual[0], expected[0], rms, 100 * rms);
    CHECK_CLOSE(actual[1], expected[1], rms, 100 * rms);
  }
}

TEST_CASE("gated_linear_attention without gates equals gates of zero") {
  const AttentionSizes sizes{2, 1, 5, 6};
  const auto layout = ops::SequenceLayout::uniform(1, 70);
  auto inputs = attention_inputs(sizes, 70, 1, DType::kF32);
  inputs[3].fill_zero();
  const auto expected = values_of(attention(sizes, layout)(constants(inputs)));
  const auto ungated =
      ops::gated_linear_attention(Variable(inputs[0]), Variable(inputs[1]), Variable(inputs[2]), Variable(),
                                  Variable(inputs[4]), layout, attention_options(sizes));
  CHECK(same_bits(ungated.output.value(), expected[0]));
  CHECK(same_bits(ungated.final_state.value(), expected[1]));
}

TEST_CASE(
    "gated_linear_attention: packed sequences, empty ones among them, equal separate ones bit for bit") {
  const AttentionSizes sizes{4, 2, 9, 11};
  // Slots in another order than sequences; slot 1 is left by none, slot 4 read by none.
  ops::SequenceLayout packed;
  packed.offsets = {0, 0, 15, 16, 80, 80, 145};
  packed.state_in = {3, -1, 2, 0, -1, 1};
  packed.state_out = {0, 4, -1, 3, 2, -1};
  packed.slots = 5;
  const auto inputs = attention_inputs(sizes, 145, 5, DType::kF32);
  const std::vector<Tensor> cotangents = {random_normal({145, 4 * 11}, DType::kF32, 11),
                                          random_normal(inputs[4].shape(), DType::kF32, 12)};
  const auto together = values_of(attention(sizes, packed)(constants(inputs)));
  const auto gradients = gradients_of(attention(sizes, packed), inputs, cotangents);
  Tensor zero = Tensor::zeros({1, 2, 9, 11}, DType::kF32, Device::kCpu);
  CHECK(same_bits(together[1].narrow(0, 1, 1), zero));
  CHECK(same_bits(gradients[4].narrow(0, 4, 1), zero));
  for (size_t s = 0; s < 6; ++s) {
    CAPTURE(s);
    const int64_t begin = packed.offsets[s], length = packed.offsets[s + 1] - begin;
    const int64_t slot_in = packed.state_in[s], slot_out = packed.state_out[s];
    std::vector<Tensor> part;
    for (size_t i = 0; i < 4; ++i) part.push_back(inputs[i].narrow(0, begin, length));
    part.push_back(slot_in < 0 ? zero : inputs[4].narrow(0, slot_in, 1));
    const auto alone_layout = ops::SequenceLayout::uniform(1, length);
    const auto alone = values_of(attention(sizes, alone_layout)(constants(part)));
    CHECK(same_bits(together[0].narrow(0, begin, length), alone[0]));
    if (slot_out >= 0) CHECK(same_bits(together[1].narrow(0, slot_out, 1), alone[1]));
    const auto alone_gradients = gradients_of(
        attention(sizes, alone_layout), part,
        {cotangents[0].narrow(0, begin, length), slot_out < 0 ? zero : cotangents[1].narrow(0, slot_out, 1)});
    for (size_t i = 0; i < 4; ++i)
      CHECK(same_bits(gradients[i].narrow(0, begin, length), alone_gradients[i]));
    if (slot_in >= 0) CHECK(same_bits(gradients[4].narrow(0, slot_in, 1), alone_gradients[4]));
  }
}

TEST_CASE("gated_linear_attention: token by token with the state carried equals the whole, bit for bit") {
  const AttentionSizes sizes{4, 2, 20, 33};
  const auto inputs = attention_inputs(sizes, 3 * 40, 3, DType::kF32);
  const auto whole = values_of(attention(sizes, ops::SequenceLayout::uniform(3, 40))(constants(inputs)));
  Tensor state = inputs[4];
  for (int64_t t = 0; t < 40; ++t) {
    // Every 40th row from t on: the strides of the batch, not copies.
    std::vector<Variable> step;
    for (size_t i = 0; i < 4; ++i) {
      const Tensor rows = inputs[i].view(Shape{3, 40 * inputs[i].size(1)});
      step.emplace_back(rows.columns(t * inputs[i].size(1), inputs[i].size(1)));
    }
    step.emplace_back(state);
    const auto result = values_of(attention(sizes, ops::SequenceLayout::uniform(3, 1))(step));
    const Tensor expected = whole[0].view(Shape{3, 40 * 4 * 33}).columns(t * 4 * 33, 4 * 33);
    CHECK(same_bits(result[0], expected));
    state = result[1];
  }
  CHECK(same_bits(state, whole[1]));
}

TEST_CASE("gated_linear_attention writes states over the ones it starts from, where it may") {
  const AttentionSizes sizes{4, 2, 20, 33};
  const auto inputs = attention_inputs(sizes, 3 * 7, 3, DType::kF32);
  auto layout = ops::SequenceLayout::uniform(3, 7), rotating = ops::SequenceLayout::uniform(3, 7);
  const auto expected = values_of(attention(sizes, ops::SequenceLayout::uniform(3, 7))(constants(inputs)));
  layout.reuses_states = rotating.reuses_states = true;
  rotating.state_out = {1, 2, 0};
  CHECK_FALSE(values_of(attention(sizes, rotating)(constants(inputs)))[1].same_view(inputs[4]));
  std::vector<Variable> recorded = constants(inputs);
  recorded[0] = Variable(inputs[0], true);
  CHECK_FALSE(values_of(attention(sizes, layout)(recorded))[1].same_view(inputs[4]));
  const auto result = values_of(attention(sizes, layout)(constants(inputs)));
  CHECK(result[1].same_view(inputs[4]));
  CHECK(same_bits(result[0], expected[0]));
  CHECK(same_bits(result[1], expected[1]));
}

TEST_CASE("gated_linear_attention: grouped heads equal repeated key and value heads") {
  const AttentionSizes grouped{6, 2, 5, 4}, repeated{6, 6, 5, 4};
  const auto layout = ops::SequenceLayout::uniform(2, 67);
  const auto inputs = attention_inputs(grouped, 134, 2, DType::kF64);
  // [rows, 2 * width] -> [rows, 6 * width], each head three times; and back, by sums.
  const auto repeat = [](const Tensor& x, int64_t width) {
    const Tensor result = Tensor::empty({x.rows(), 6 * width}, DType::kF64, Device::kCpu);
    for (int64_t head = 0; head < 6; ++head) {
      result.columns(head * width, width).copy_from(x.columns(head / 3 * width, width));
    }
    return result;
  };
  const auto gather = [](const Tensor& x, int64_t width) {
    const Tensor result = Tensor::zeros({x.rows(), 2 * width}, DType::kF64, Device::kCpu);
    for (int64_t head = 0; head < 6; ++head) {
      result.columns(head / 3 * width, width).add_from(x.columns(head * width, width));
    }
    return result;
  };
  const Tensor state = repeat(inputs[4].view(Shape{2, 2 * 20}), 20);
  const std::vector<Tensor> wide = {inputs[0], repeat(inputs[1], 5), repeat(inputs[2], 4),
                                    repeat(inputs[3], 5), state.view(Shape{2, 6, 5, 4})};
  const auto few = values_of(attention(grouped, layout)(constants(inputs)));
  const auto many = values_of(attention(repeated, layout)(constants(wide)));
  CHECK(same_bits(few[0], many[0]));
  CHECK(same_bits(repeat(few[1].view(Shape{2, 2 * 20}), 20), many[1].view(Shape{2, 6 * 20})));
  const Tensor d_output = random_normal({134, 24}, DType::kF64, 11);
  const auto d_few = gradients_of(attention(grouped, layout), inputs,
                                  {d_output, Tensor::zeros(inputs[4].shape(), DType::kF64, Device::kCpu)});
  const auto d_many = gradients_of(attention(repeated, layout), wide,
                                   {d_output, Tensor::zeros(wide[4].shape(), DType::kF64, Device::kCpu)});
  CHECK_CLOSE(d_few[0], d_many[0], 1e-14, 1e-12);
  CHECK_CLOSE(d_few[1], gather(d_many[1], 5), 1e-14, 1e-12);
  CHECK_CLOSE(d_few[2], gather(d_many[2], 4), 1e-14, 1e-12);
  CHECK_CLOSE(d_few[3], gather(d_many[3], 5), 1e-14, 1e-12);
  CHECK_CLOSE(d_few[4].view(Shape{2, 40}), gather(d_many[4].view(Shape{2, 120}), 20), 1e-14, 1e-12);
}

TEST_CASE("gated_linear_attention gives the same bits on one thread and on several") {
  const AttentionSizes sizes{4, 2, 40, 70};
  const auto layout = ops::SequenceLayout::cut_at(2, 200, {});
  const auto inputs = attention_inputs(sizes, 400, 2, DType::kF32);
  const std::vector<Tensor> cotangents = {random_normal({400, 4 * 70}, DType::kF32, 11),
                                          random_normal(inputs[4].shape(), DType::kF32, 12)};
  std::vector<std::vector<Tensor>> results;
  const int threads = omp_get_max_threads();
  for (const int count : {1, 2, 3}) {
    omp_set_num_threads(count);
    results.push_back(values_of(attention(sizes, layout)(constants(inputs))));
    for (const Tensor& gradient : gradients_of(attention(sizes, layout), inputs, cotangents)) {
      results.back().push_back(gradient);
    }
  }
  omp_set_num_threads(threads);
  for (size_t i = 0; i < results[0].size(); ++i) {
    CHECK(same_bits(results[0][i], results[1][i]));
    CHECK(same_bits(results[0][i], results[2][i]));
  }
}

TEST_CASE("gated_linear_attention takes the scale given") {
  const AttentionSizes sizes{1, 1, 4, 3};
  const auto layout = ops::SequenceLayout::uniform(1, 5);
  const auto inputs = attention_inputs(sizes, 5, 1, DType::kF64);
  const auto run = [&](std::optional<double> scale) {
    auto options = attention_options(sizes);
    options.scale = scale, options.want_final_state = false;
    const auto result =
        ops::gated_linear_attention(Variable(inputs[0]), Variable(inputs[1]), Variable(inputs[2]),
                                    Variable(inputs[3]), Variable(inputs[4]), layout, options);
    CHECK_FALSE(result.final_state.defined());
    return result.output.value();
  };
  CHECK(same_bits(run(std::nullopt), run(0.5)));  // 4^-1/2
  CHECK_FALSE(same_bits(run(1.0), run(0.5)));
}

TEST_CASE("gated_linear_attention refuses arguments that do not fit") {
  const AttentionSizes sizes{2, 1, 3, 5};
  const auto layout = ops::SequenceLayout::uniform(2, 4);
  const auto inputs = attention_inputs(sizes, 8, 2, DType::kF32);
  const auto with = [&](size_t which, const Shape& shape, DType dtype = DType::kF32) {
    auto changed = inputs;
    changed[which] = Tensor::zeros(shape, dtype, Device::kCpu);
    attention(sizes, layout)(constants(changed));
  };
  CHECK_THROWS_WITH(with(0, {8, 7}),
                    contains("[gated_linear_attention] expected q of shape [N, 2 heads * K], got [8, 7]"));
  CHECK_THROWS_WITH(with(0, {8}), contains("expected q of rank 2, got shape [8]"));
  CHECK_THROWS_WITH(with(1, {8, 6}), contains("expected k of shape [8, 3], got [8, 6]"));
  CHECK_THROWS_WITH(with(2, {7, 5}), contains("expected v of shape [8, 1 kv heads * V], got [7, 5]"));
  CHECK_THROWS_WITH(with(3, {8, 5}), contains("expected g of shape [8, 3], got [8, 5]"));
  CHECK_THROWS_WITH(with(4, {2, 1, 5, 3}),
                    contains("expected initial_state of shape [2, 1, 3, 5], got [2, 1, 5, 3]"));
  CHECK_THROWS_WITH(with(3, {8, 3}, DType::kF64), contains("expected g as f32"));
  CHECK_THROWS_WITH(with(4, {2, 1, 3, 5}, DType::kF64), contains("expected initial_state as f32"));
  CHECK_THROWS_WITH(attention({3, 2, 3, 5}, layout)(constants(inputs)),
                    contains("expected query heads to be a multiple of kv heads, got 3 and 2"));
  CHECK_THROWS_WITH(attention(sizes, ops::SequenceLayout::uniform(2, 5))(constants(inputs)),
                    contains("8 tokens"));
  try {
    with(1, {8, 6});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInternal);
  }
}

TEST_CASE("gated_linear_attention: one slot may start several sequences, but not with a gradient") {
  const AttentionSizes sizes{1, 1, 3, 5};
  ops::SequenceLayout layout;
  layout.offsets = {0, 4, 8};
  layout.state_in = {1, 1};
  layout.state_out = {0, 1};
  layout.slots = 2;
  const auto inputs = attention_inputs(sizes, 8, 2, DType::kF64);
  const auto actual = values_of(attention(sizes, layout)(constants(inputs)));
  CHECK_CLOSE(actual[0], parallel_form(inputs, sizes, layout)[0], 1e-13, 1e-11);
  auto variables = constants(inputs);
  variables[4] = Variable(inputs[4], true);
  CHECK_THROWS_WITH(attention(sizes, layout)(variables), contains("slot 1 read by sequences 0 and 1"));
}
