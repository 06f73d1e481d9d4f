#include "ops/linear_cross_entropy.h"

#include <cmath>

#include "autograd/backward.h"
#include "core/error.h"
#include "ops/embedding.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

constexpr int64_t kTokens = 13, kChannels = 5, kVocabulary = 37;

// Every fourth label is ignored.
Tensor some_labels(int64_t tokens = kTokens, int32_t ignored = -100) {
  auto labels = test::random_integers({tokens}, 3, 0, kVocabulary).to_vector<int32_t>();
  for (size_t i = 1; i < labels.size(); i += 4) labels[i] = ignored;
  return Tensor::from<int32_t>({tokens}, labels);
}

// -log softmax(W x_n)[label] by the definition, in long double; 0 where ignored.
std::vector<double> defined_losses(const Tensor& x, const Tensor& weight, const Tensor& labels,
                                   int32_t ignored) {
  const auto xs = x.to_vector<double>(), ws = weight.to_vector<double>();
  const auto ids = labels.to_vector<int32_t>();
  const auto channels = static_cast<size_t>(x.size(1)), vocabulary = static_cast<size_t>(weight.size(0));
  std::vector<double> losses(ids.size(), 0.0);
  for (size_t n = 0; n < ids.size(); ++n) {
    if (ids[n] == ignored) continue;
    long double sum = 0, own = 0;
    for (size_t j = 0; j < vocabulary; ++j) {
      long double logit = 0;
      for (size_t c = 0; c < channels; ++c)
        logit += static_cast<long double>(xs[n * channels + c]) * ws[j * channels + c];
      sum += std::exp(logit);
      if (static_cast<size_t>(ids[n]) == j) own = logit;
    }
    losses[n] = static_cast<double>(std::log(sum) - own);
  }
  return losses;
}

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

test::DifferentiableFunction loss_of(const Tensor& labels, const ops::LinearCrossEntropyOptions& options) {
  return [=](const std::vector<Variable>& in) {
    return std::vector<Variable>{ops::linear_cross_entropy(in[0], in[1], labels, options)};
  };
}

void check_data_error(const std::function<void()>& call, const std::string& part) {
  try {
    call();
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 3);
    CHECK_THAT(error.what(), test::contains(part));
  }
}

}  // namespace

TEST_CASE("linear_cross_entropy: value and Jacobian whatever the chunk") {
  const Tensor x = random_normal({kTokens, kChannels}, DType::kF64, 1);
  const Tensor weight = random_normal({kVocabulary, kChannels}, DType::kF64, 2);
  for (const int32_t ignored : {-100, 0}) {
    const Tensor labels = some_labels(kTokens, ignored);
    int64_t counted = 0;
    for (const int32_t label : labels.to_vector<int32_t>()) counted += label != ignored;
    const auto losses = defined_losses(x, weight, labels, ignored);
    for (const int64_t chunk : {int64_t{1}, int64_t{7}, kTokens, kTokens + 1, int64_t{0}}) {
      CAPTURE(ignored, chunk);
      ops::LinearCrossEntropyOptions options;
      options.ignore_index = ignored, options.chunk_rows = chunk;
      const Variable loss = ops::linear_cross_entropy(Variable(x), Variable(weight), labels, options);
      CHECK(loss.shape() == Shape{});
      CHECK(loss.value().item() == Approx(sum_of(losses) / static_cast<double>(counted)).epsilon(1e-13));
      test::check_gradients(loss_of(labels, options), {x, weight});
      options.denominator = 50;
      CHECK(ops::linear_cross_entropy(Variable(x), Variable(weight), labels, options).value().item() ==
            Approx(sum_of(losses) / 50).epsilon(1e-13));
      test::check_gradients(loss_of(labels, options), {x, weight});
      const Tensor each = ops::cross_entropy_per_token(x, weight, labels, ignored, chunk);
      CHECK_CLOSE(each, Tensor::from<double>({kTokens}, losses), 1e-13, 1e-12);
    }
  }
}

TEST_CASE("linear_cross_entropy: the scalar from above scales, gradients add up, inputs may be strided") {
  const Tensor labels = some_labels();
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {2, kChannels});
        return std::vector<Variable>{ops::linear_cross_entropy(parts[1], in[1], labels),
                                     ops::linear_cross_entropy(parts[1], in[1], labels), parts[0]};
      },
      {random_normal({kTokens, 2 + kChannels}, DType::kF64, 1),
       random_normal({kVocabulary, kChannels}, DType::kF64, 2)});
  // Tied weights: the same table embeds the tokens.
  const Tensor tokens = test::random_integers({kTokens}, 5, 0, kVocabulary);
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        return std::vector<Variable>{ops::linear_cross_entropy(ops::embedding(tokens, in[0]), in[0], labels)};
      },
      {random_normal({kVocabulary, kChannels}, DType::kF64, 2)});
}

TEST_CASE("linear_cross_entropy: every label ignored gives 0 and no gradient") {
  const Variable x(random_normal({3, kChannels}, DType::kF32, 1), true);
  const Variable weight(random_normal({kVocabulary, kChannels}, DType::kF32, 2), true);
  const Tensor labels = Tensor::from<int32_t>({3}, {-100, -100, -100});
  const Variable loss = ops::linear_cross_entropy(x, weight, labels);
  CHECK(loss.value().item() == 0.0);
  backward(loss);
  CHECK(x.gradient().to_vector<float>() == std::vector<float>(3 * kChannels, 0.0f));
  CHECK(weight.gradient().to_vector<float>() == std::vector<float>(kVocabulary * kChannels, 0.0f));
}

TEST_CASE("linear_cross_entropy of no tokens") {
  const Variable x(Tensor::empty({0, kChannels}, DType::kF32, Device::kCpu), true);
  const Variable weight(random_normal({kVocabulary, kChannels}, DType::kF32, 2), true);
  const Variable loss = ops::linear_cross_entropy(x, weight, Tensor::empty({0}, DType::kI32, Device::kCpu));
  CHECK(loss.value().item() == 0.0);
  backward(loss);
  CHECK(weight.gradient().to_vector<float>() == std::vector<float>(kVocabulary * kChannels, 0.0f));
}

TEST_CASE("linear_cross_entropy: f32 against f64") {
  const Tensor x = random_normal({65, 32}, DType::kF32, 1, 0.3),
               weight = random_normal({3001, 32}, DType::kF32, 2);
  const Tensor x64 = x.to(DType::kF64), weight64 = weight.to(DType::kF64);
  const auto function = loss_of(test::random_integers({65}, 3, 0, 3001), {});
  const Tensor one = Tensor::from<double>({}, {1.0});
  CHECK_CLOSE(function({Variable(x), Variable(weight)})[0].value(),
              function({Variable(x64), Variable(weight64)})[0].value(), 1e-6, 1e-6);
  const auto actual = test::gradients_of(function, {x, weight}, {one.to(DType::kF32)});
  const auto expected = test::gradients_of(function, {x64, weight64}, {one});
  for (size_t i = 0; i < 2; ++i) CHECK_CLOSE(actual[i], expected[i], 1e-6, 1e-5);
}

// Exponentials of such logits overflow in float and in double unless the largest is taken out, wherever it
// stands.
TEST_CASE("linear_cross_entropy: logits of thousands, the largest anywhere in its row") {
  for (const int64_t vocabulary : {1, 5, 31, 32, 33, 70}) {
    CAPTURE(vocabulary);
    const Tensor x = random_normal({100, 4}, DType::kF32, 1, 1000.0);
    const Tensor weight = random_normal({vocabulary, 4}, DType::kF32, 2);
    const Tensor labels = test::random_integers({100}, 3, 0, static_cast<int32_t>(vocabulary));
    const Tensor x64 = x.to(DType::kF64), weight64 = weight.to(DType::kF64);
    const Tensor expected = Tensor::from<double>({100}, defined_losses(x64, weight64, labels, -100));
    CHECK_CLOSE(ops::cross_entropy_per_token(x64, weight64, labels), expected, 1e-13, 1e-12);
    CHECK_CLOSE(ops::cross_entropy_per_token(x, weight, labels), expected, 1e-6, 1e-5);
    const auto gradients =
        test::gradients_of(loss_of(labels, {}), {x, weight}, {Tensor::from<float>({}, {1.0f})});
    for (size_t i = 0; i < 2; ++i) {
      for (const float value : gradients[i].to_vector<float>()) CHECK(std::isfinite(value));
    }
  }
}

TEST_CASE("linear_cross_entropy refuses labels outside the vocabulary and shapes that do not fit") {
  const Variable x(random_normal({3, 4}, DType::kF32, 1)), weight(random_normal({6, 4}, DType::kF32, 2));
  const Tensor high = Tensor::from<int32_t>({3}, {0, -100, 6}), low = Tensor::from<int32_t>({3}, {0, -1, 5});
  check_data_error([&] { ops::linear_cross_entropy(x, weight, high); },
                   "label 6 at position 2 is neither in the vocabulary of 6 nor -100");
  check_data_error([&] { ops::linear_cross_entropy(x, weight, low); }, "label -1 at position 1");
  check_data_error([&] { ops::cross_entropy_per_token(x.value(), weight.value(), high); },
                   "[cross_entropy_per_token] label 6 at position 2");
  const Tensor labels = Tensor::from<int32_t>({3}, {0, 1, 5});
  CHECK_THROWS_WITH(ops::linear_cross_entropy(x, Variable(random_normal({6, 5}, DType::kF32, 1)), labels),
                    test::contains("expected weight of shape [V, 4], got [6, 5]"));
  CHECK_THROWS_WITH(ops::linear_cross_entropy(x, weight, Tensor::from<int32_t>({2}, {0, 1})),
                    test::contains("expected labels of shape [3], got [2]"));
  ops::LinearCrossEntropyOptions negative;
  negative.denominator = -1;
  CHECK_THROWS_WITH(ops::linear_cross_entropy(x, weight, labels, negative),
                    test::contains("expected a denominator > 0 (or 0: count the labels), got -1"));
}
