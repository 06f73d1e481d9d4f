#include "ops/embedding.h"

#include <omp.h>

#include "autograd/backward.h"
#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

Tensor tokens_of(const std::vector<int32_t>& tokens) {
  return Tensor::from<int32_t>({static_cast<int64_t>(tokens.size())}, tokens);
}

}  // namespace

TEST_CASE("embedding: Jacobian with repeated, unused and strided rows") {
  for (const auto& tokens : {std::vector<int32_t>{2}, {0, 4, 4, 1, 4, 0}, {3, 3, 3, 3}}) {
    test::check_gradients(
        [&](const std::vector<Variable>& in) {
          return std::vector<Variable>{ops::embedding(tokens_of(tokens), in[0])};
        },
        {random_normal({5, 3}, DType::kF64, 1)});
  }
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(ops::embedding(tokens_of({1, 0, 1}), in[0]), {2, 3});
        return std::vector<Variable>{parts[1], parts[0], ops::embedding(tokens_of({1, 1}), in[0])};
      },
      {random_normal({2, 5}, DType::kF64, 1)});
}

TEST_CASE("embedding: gradients add to a parameter's, the same bits for any number of threads") {
  const Tensor tokens = test::random_integers({5000}, 1, 0, 97);
  const Tensor weight = random_normal({100, 33}, DType::kF32, 2),
               dy = random_normal({5000, 33}, DType::kF32, 3);
  const auto gradient_with = [&](int threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    const Tensor gradient = random_normal({100, 33}, DType::kF32, 4);
    backward({ops::embedding(tokens, Variable::parameter(weight, gradient))}, {dy});
    omp_set_num_threads(before);
    return gradient.to_vector<float>();
  };
  const auto alone = gradient_with(1);
  CHECK(gradient_with(2) == alone);
  CHECK(gradient_with(5) == alone);

  auto expected = random_normal({100, 33}, DType::kF32, 4).to_vector<float>();
  const auto ids = tokens.to_vector<int32_t>();
  const auto rows = dy.to_vector<float>();
  for (size_t n = 0; n < ids.size(); ++n) {
    for (size_t c = 0; c < 33; ++c) expected[static_cast<size_t>(ids[n]) * 33 + c] += rows[n * 33 + c];
  }
  CHECK(alone == expected);
}

TEST_CASE("embedding of no tokens") {
  const Variable weight(random_normal({4, 2}, DType::kF32, 1), true);
  const Variable y = ops::embedding(tokens_of({}), weight);
  CHECK(y.shape() == Shape{0, 2});
  backward({y}, {Tensor::empty({0, 2}, DType::kF32, Device::kCpu)});
  CHECK(weight.gradient().to_vector<float>() == std::vector<float>(8, 0.0f));
}

TEST_CASE("embedding refuses tokens outside the vocabulary and wrong types") {
  const Variable weight(random_normal({4, 2}, DType::kF32, 1));
  for (const int32_t bad : {4, -1}) {
    try {
      ops::embedding(tokens_of({0, 3, bad}), weight);
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 3);
      CHECK_THAT(error.what(), test::contains("token " + std::to_string(bad) + " at position 2"));
      CHECK_THAT(error.what(), test::contains("vocabulary of 4"));
    }
  }
  CHECK_THROWS_WITH(ops::embedding(random_normal({3}, DType::kF32, 1), weight),
                    test::contains("[embedding] expected tokens as i32, got f32"));
  CHECK_THROWS_WITH(ops::embedding(tokens_of({1}), Variable(random_normal({4}, DType::kF32, 1))),
                    test::contains("[embedding] expected weight of rank 2"));
}
