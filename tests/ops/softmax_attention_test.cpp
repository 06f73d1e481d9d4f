#include "ops/softmax_attention.h"

#include <omp.h>

#include <cmath>

#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using ops::SoftmaxAttentionOptions;
using test::random_normal;

namespace {

SoftmaxAttentionOptions options_of(int64_t heads, int64_t kv_heads, int64_t window,
                                   std::vector<int64_t> q_offsets, std::vector<int64_t> k_offsets = {}) {
  SoftmaxAttentionOptions options;
  options.heads = heads, options.kv_heads = kv_heads, options.window = window, options.scale = 0.6;
  options.k_offsets = k_offsets.empty() ? q_offsets : std::move(k_offsets);
  options.q_offsets = std::move(q_offsets);
  return options;
}

test::DifferentiableFunction attention(const SoftmaxAttentionOptions& options) {
  return [options](const std::vector<Variable>& in) {
    return std::vector<Variable>{ops::softmax_attention(in[0], in[1], in[2], options)};
  };
}

struct Inputs {
  std::vector<Tensor> qkv;
  std::vector<Tensor> cotangent;

  Inputs to(DType dtype) const {
    Inputs result;
    for (const Tensor& tensor : qkv) result.qkv.push_back(tensor.to(dtype));
    for (const Tensor& tensor : cotangent) result.cotangent.push_back(tensor.to(dtype));
    return result;
  }
};

Inputs random_inputs(const SoftmaxAttentionOptions& o, int64_t head_dim, DType dtype = DType::kF64) {
  const int64_t queries = o.q_offsets.host().back(), keys = o.k_offsets.host().back();
  return {{random_normal({queries, o.heads * head_dim}, dtype, 1),
           random_normal({keys, o.kv_heads * head_dim}, dtype, 2),
           random_normal({keys, o.kv_heads * head_dim}, dtype, 3)},
          {random_normal({queries, o.heads * head_dim}, dtype, 4)}};
}

Tensor output_of(const SoftmaxAttentionOptions& options, const Inputs& inputs) {
  return ops::softmax_attention(Variable(inputs.qkv[0]), Variable(inputs.qkv[1]), Variable(inputs.qkv[2]),
                                options)
      .value();
}

// One query by the definition: a softmax over the keys that the mask leaves.
std::vector<double> attended(const SoftmaxAttentionOptions& o, const std::vector<Tensor>& qkv,
                             int64_t sequence, int64_t query, int64_t head) {
  const int64_t head_dim = qkv[0].size(1) / o.heads, kv_head = head / (o.heads / o.kv_heads);
  const auto s = static_cast<size_t>(sequence);
  const int64_t queries = o.q_offsets[s + 1] - o.q_offsets[s], keys = o.k_offsets[s + 1] - o.k_offsets[s];
  const int64_t position = keys - queries + query;
  const double* q = qkv[0].data<double>() + (o.q_offsets[s] + query) * qkv[0].size(1) + head * head_dim;
  std::vector<double> sum(static_cast<size_t>(head_dim), 0.0);
  double weights = 0;
  for (int64_t key = 0; key < keys; ++key) {
    if (key > position || (o.window > 0 && key <= position - o.window)) continue;
    const int64_t at = (o.k_offsets[s] + key) * qkv[1].size(1) + kv_head * head_dim;
    double score = 0;
    for (int64_t d = 0; d < head_dim; ++d) score += q[d] * qkv[1].data<double>()[at + d];
    const double weight = std::exp(o.scale * score);
    weights += weight;
    for (int64_t d = 0; d < head_dim; ++d)
      sum[static_cast<size_t>(d)] += weight * qkv[2].data<double>()[at + d];
  }
  for (double& value : sum) value /= weights;
  return sum;
}

Tensor defined(const SoftmaxAttentionOptions& o, const std::vector<Tensor>& qkv) {
  std::vector<double> values;
  for (int64_t s = 0; s + 1 < o.q_offsets.size(); ++s) {
    for (int64_t query = 0; query < o.q_offsets[s + 1] - o.q_offsets[s]; ++query) {
      for (int64_t head = 0; head < o.heads; ++head) {
        const auto part = attended(o, qkv, s, query, head);
        values.insert(values.end(), part.begin(), part.end());
      }
    }
  }
  return Tensor::from<double>(qkv[0].shape(), values);
}

Tensor rows_of(const Tensor& tensor, int64_t first, int64_t count) {
  return tensor.narrow(0, first, count).clone();
}

}  // namespace

TEST_CASE("softmax_attention equals its definition around the edges of tiles") {
  for (const int64_t length : {1, 31, 32, 33, 63, 64, 65, 130}) {
    for (const int64_t window : {0, 1, 7, 64, 1000}) {
      for (const int64_t head_dim : {3, 16, 40}) {
        CAPTURE(length, window, head_dim);
        const auto options = options_of(2, 1, window, {0, length});
        const Inputs inputs = random_inputs(options, head_dim);
        CHECK_CLOSE(output_of(options, inputs), defined(options, inputs.qkv), 1e-13, 1e-12);
      }
    }
  }
}

TEST_CASE("softmax_attention: Jacobian, packed with empty sequences, grouped, windowed, with earlier keys") {
  for (const int64_t window : {0, 3}) {
    CAPTURE(window);
    test::check_gradients(attention(options_of(1, 1, window, {0, 1})),
                          random_inputs(options_of(1, 1, window, {0, 1}), 2).qkv);
    const auto packed = options_of(4, 2, window, {0, 0, 5, 5, 6, 9});
    test::check_gradients(attention(packed), random_inputs(packed, 3).qkv);
    const auto decoding = options_of(2, 1, window, {0, 2, 2, 5}, {0, 6, 9, 12});
    test::check_gradients(attention(decoding), random_inputs(decoding, 3).qkv);
  }
}

TEST_CASE("softmax_attention: gradients across tiles, against differences along a direction") {
  for (const int64_t length : {31, 32, 33, 65, 130}) {
    for (const int64_t window : {0, 40}) {
      CAPTURE(length, window);
      const auto options = options_of(4, 2, window, {0, length, length + 3}, {0, length + 35, length + 38});
      test::check_directional_gradient(attention(options), random_inputs(options, 17).qkv);
    }
  }
}

TEST_CASE("softmax_attention on slices of a merged projection, used twice") {
  const auto options = options_of(2, 1, 0, {0, 4, 7});
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {6, 3, 3});
        const auto once = ops::softmax_attention(parts[0], parts[1], parts[2], options);
        return std::vector<Variable>{once, ops::softmax_attention(parts[0], parts[2], parts[1], options)};
      },
      {random_normal({7, 12}, DType::kF64, 1)});
}

TEST_CASE("softmax_attention: packed sequences equal separate ones bit for bit") {
  const std::vector<int64_t> offsets = {0, 70, 70, 71, 200};
  const auto packed = options_of(2, 2, 50, offsets);
  const Inputs inputs = random_inputs(packed, 16, DType::kF32);
  const Tensor whole = output_of(packed, inputs);
  const auto gradients = test::gradients_of(attention(packed), inputs.qkv, inputs.cotangent);
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t first = offsets[s], length = offsets[s + 1] - first;
    if (length == 0) continue;
    Inputs part;
    for (const Tensor& tensor : inputs.qkv) part.qkv.push_back(rows_of(tensor, first, length));
    part.cotangent.push_back(rows_of(inputs.cotangent[0], first, length));
    const auto alone = options_of(2, 2, 50, {0, length});
    CHECK(output_of(alone, part).to_vector<float>() == rows_of(whole, first, length).to_vector<float>());
    const auto separate = test::gradients_of(attention(alone), part.qkv, part.cotangent);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(separate[i].to_vector<float>() == rows_of(gradients[i], first, length).to_vector<float>());
    }
  }
}

TEST_CASE("softmax_attention: later queries over all keys equal the whole bit for bit") {
  for (const int64_t window : {0, 20, 100}) {
    const auto full = options_of(2, 1, window, {0, 150});
    const Inputs inputs = random_inputs(full, 32, DType::kF32);
    const Tensor whole = output_of(full, inputs);
    for (const int64_t before : {1, 64, 100, 149}) {
      CAPTURE(window, before);
      const auto rest = options_of(2, 1, window, {0, 150 - before}, {0, 150});
      Inputs later = inputs;
      later.qkv[0] = rows_of(inputs.qkv[0], before, 150 - before);
      CHECK(output_of(rest, later).to_vector<float>() ==
            rows_of(whole, before, 150 - before).to_vector<float>());
    }
    // One token at a time, each over the keys so far.
    for (const int64_t position : {0, 1, 63, 64, 149}) {
      CAPTURE(window, position);
      Inputs step;
      step.qkv = {rows_of(inputs.qkv[0], position, 1), rows_of(inputs.qkv[1], 0, position + 1),
                  rows_of(inputs.qkv[2], 0, position + 1)};
      const auto one = options_of(2, 1, window, {0, 1}, {0, position + 1});
      CHECK(output_of(one, step).to_vector<float>() == rows_of(whole, position, 1).to_vector<float>());
    }
  }
}

TEST_CASE("softmax_attention: grouped heads equal repeated ones") {
  const int64_t head_dim = 8, rows = 37;
  const auto grouped = options_of(6, 2, 0, {0, rows}), repeated = options_of(6, 6, 0, {0, rows});
  const Inputs inputs = random_inputs(grouped, head_dim);
  const auto repeat = [&](const Tensor& narrow) {
    const Tensor wide = Tensor::empty({rows, 6 * head_dim}, DType::kF64, Device::kCpu);
    for (int64_t head = 0; head < 6; ++head) {
      wide.columns(head * head_dim, head_dim).copy_from(narrow.columns(head / 3 * head_dim, head_dim));
    }
    return wide;
  };
  const auto summed = [&](const Tensor& wide) {
    const Tensor narrow = Tensor::zeros({rows, 2 * head_dim}, DType::kF64, Device::kCpu);
    for (int64_t head = 0; head < 6; ++head) {
      narrow.columns(head / 3 * head_dim, head_dim).add_from(wide.columns(head * head_dim, head_dim));
    }
    return narrow;
  };
  Inputs wide = inputs;
  wide.qkv[1] = repeat(inputs.qkv[1]);
  wide.qkv[2] = repeat(inputs.qkv[2]);
  CHECK_CLOSE(output_of(grouped, inputs), output_of(repeated, wide), 1e-15, 1e-14);
  const auto actual = test::gradients_of(attention(grouped), inputs.qkv, inputs.cotangent);
  const auto expected = test::gradients_of(attention(repeated), wide.qkv, wide.cotangent);
  CHECK_CLOSE(actual[0], expected[0], 1e-14, 1e-13);
  CHECK_CLOSE(actual[1], summed(expected[1]), 1e-14, 1e-13);
  CHECK_CLOSE(actual[2], summed(expected[2]), 1e-14, 1e-13);
}

TEST_CASE("softmax_attention: the same bits for any number of threads") {
  const auto options = options_of(4, 2, 90, {0, 200, 333});
  const Inputs inputs = random_inputs(options, 24, DType::kF32);
  const auto run_with = [&](int threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    std::vector<std::vector<float>> results = {output_of(options, inputs).to_vector<float>()};
    for (const Tensor& gradient : test::gradients_of(attention(options), inputs.qkv, inputs.cotangent)) {
      results.push_back(gradient.to_vector<float>());
    }
    omp_set_num_threads(before);
    return results;
  };
  const auto alone = run_with(1);
  CHECK(run_with(2) == alone);
  CHECK(run_with(5) == alone);
}

TEST_CASE("softmax_attention: f32 against f64, also where scores run into the thousands") {
  for (const double scale : {0.125, 30.0}) {
    CAPTURE(scale);
    auto options = options_of(2, 1, 0, {0, 257});
    options.scale = scale;
    const Inputs single = random_inputs(options, 64, DType::kF32), inputs = single.to(DType::kF64);
    // A score's absolute rounding error becomes a relative one of its weight.
    const double tolerance = scale < 1 ? 1e-6 : 2e-4;
    CHECK_CLOSE(output_of(options, single), output_of(options, inputs), tolerance, 100 * tolerance);
    const auto actual = test::gradients_of(attention(options), single.qkv, single.cotangent);
    const auto expected = test::gradients_of(attention(options), inputs.qkv, inputs.cotangent);
    for (size_t i = 0; i < 3; ++i) CHECK_CLOSE(actual[i], expected[i], 3 * tolerance, 300 * tolerance);
  }
}

TEST_CASE("softmax_attention: 2^17 tokens under a window") {
  constexpr int64_t kLength = 1 << 17, kDim = 8;
  const auto options = options_of(1, 1, 100, {0, kLength});
  const Inputs inputs = random_inputs(options, kDim);
  const Tensor o = output_of(options, inputs);
  std::vector<double> actual, expected;
  for (const int64_t query :
       {int64_t{0}, int64_t{99}, int64_t{100}, int64_t{65535}, int64_t{65536}, kLength - 1}) {
    const auto row = rows_of(o, query, 1).to_vector<double>();
    actual.insert(actual.end(), row.begin(), row.end());
    const auto part = attended(options, inputs.qkv, 0, query, 0);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  CHECK_CLOSE(Tensor::from<double>({6, kDim}, actual), Tensor::from<double>({6, kDim}, expected), 1e-13,
              1e-12);
}

TEST_CASE("softmax_attention refuses what does not fit") {
  const Variable q(random_normal({4, 6}, DType::kF32, 1)), k(random_normal({4, 3}, DType::kF32, 2));
  const auto call = [&](const SoftmaxAttentionOptions& options) { ops::softmax_attention(q, k, k, options); };
  CHECK_NOTHROW(call(options_of(2, 1, 0, {0, 4})));
  CHECK_THROWS_WITH(
      call(options_of(3, 2, 0, {0, 4})),
      test::contains("[softmax_attention] expected heads as a multiple of kv_heads, got 3 and 2"));
  CHECK_THROWS_WITH(call(options_of(2, 2, 0, {0, 4})),
                    test::contains("expected k of shape [4, 6], got [4, 3]"));
  CHECK_THROWS_WITH(call(options_of(4, 1, 0, {0, 4})),
                    test::contains("expected q of shape [N, 4 * D], got [4, 6]"));
  CHECK_THROWS_WITH(call(options_of(2, 1, -1, {0, 4})), test::contains("expected window >= 0, got -1"));
  CHECK_THROWS_WITH(call(options_of(2, 1, 0, {0, 3})),
                    test::contains("expected q_offsets from 0 to 4, got 0 to 3"));
  CHECK_THROWS_WITH(call(options_of(2, 1, 0, {0, 3, 2, 4})),
                    test::contains("expected q_offsets not to decrease, got 2 after 3"));
  CHECK_THROWS_WITH(call(options_of(2, 1, 0, {0, 4}, {0, 2, 4})),
                    test::contains("of one length, got 2 and 3"));
  CHECK_THROWS_WITH(call(options_of(2, 1, 0, {0, 3, 4}, {0, 2, 4})),
                    test::contains("got 2 keys and 3 queries in sequence 0"));
}
