#include "autograd/backward.h"

#include "autograd/tape.h"
#include "core/error.h"
#include "ops/elementwise.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

TEST_CASE("a value used twice sums its gradients, without touching shared memory") {
  const Tensor x = random_normal({3, 4}, DType::kF64, 1);
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const Variable doubled = ops::add(in[0], in[0]);
        return std::vector<Variable>{ops::multiply(doubled, in[0]), ops::add(doubled, in[0])};
      },
      {x});
}

TEST_CASE("a parameter's gradient accumulates in the memory its owner gave") {
  const Tensor gradient = Tensor::zeros({2, 2}, DType::kF32, Device::kCpu);
  const Variable w = Variable::parameter(Tensor::from<float>({2, 2}, {1, 2, 3, 4}), gradient);
  for (int pass = 1; pass <= 2; ++pass) {
    backward({ops::multiply(w, w)}, {Tensor::from<float>({2, 2}, {1, 1, 1, 1})});
    CHECK(gradient.to_vector<float>() ==
          std::vector<float>{2.0f * pass, 4.0f * pass, 6.0f * pass, 8.0f * pass});
  }
}

TEST_CASE("a restarted gradient is replaced by the first contribution, and zero where none came") {
  const Tensor used = Tensor::from<float>({1, 2}, {7, 7}), unused = used.clone(), x_gradient = used.clone();
  const Variable w = Variable::parameter(Tensor::from<float>({1, 2}, {3, 4}), used);
  const Variable other = Variable::parameter(Tensor::from<float>({1, 2}, {3, 4}), unused);
  const Variable x = Variable::parameter(Tensor::from<float>({1, 2}, {5, 6}), x_gradient);
  for (const Variable& variable : {w, other, x}) variable.restart_gradient();
  const Tensor ones = Tensor::from<float>({1, 2}, {1, 1});
  backward({ops::add(ops::multiply(w, w), x)}, {ones});
  for (const Variable& variable : {w, other, x}) variable.settle_gradient();
  CHECK(used.to_vector<float>() == std::vector<float>{6, 8});
  CHECK(unused.to_vector<float>() == std::vector<float>{0, 0});
  CHECK(x_gradient.to_vector<float>() == std::vector<float>{1, 1});
  backward({ops::add(w, x)}, {ones});
  CHECK(used.to_vector<float>() == std::vector<float>{7, 9});
  CHECK(x_gradient.to_vector<float>() == std::vector<float>{2, 2});
}

TEST_CASE("hooks fire once, after the last contribution") {
  Variable w(Tensor::from<double>({1, 1}, {3}), true);
  int calls = 0;
  double seen = 0;
  w.set_gradient_hook([&] {
    ++calls;
    seen = w.gradient().item();
  });
  const Variable square = ops::multiply(w, w);
  backward(ops::add(square, w));
  CHECK(calls == 1);
  CHECK(seen == 7.0);
}

TEST_CASE("without recording there is no tape, and a tape cannot be walked twice") {
  const Variable w(Tensor::from<double>({1, 1}, {3}), true);
  {
    const NoGradScope no_grad;
    CHECK_FALSE(ops::multiply(w, w).requires_grad());
  }
  const Variable y = ops::multiply(w, w);
  backward(y);
  CHECK_THROWS_WITH(backward(y), test::contains("walked before"));
  CHECK_THROWS_AS(backward(Variable(Tensor::from<double>({1}, {1}))), Error);
}

TEST_CASE("a gradient of another shape or dtype is refused by name") {
  const Variable w(Tensor::from<double>({2}, {1, 2}), true);
  const auto wrong = [&](const Tensor& gradient) {
    return Tape::record_one("wrong", {w}, w.value().clone(),
                            [gradient](BackwardContext& context) { context.add(0, gradient); });
  };
  const Tensor one = Tensor::from<double>({2}, {1, 1});
  CHECK_THROWS_WITH(backward({wrong(Tensor::from<double>({1, 2}, {1, 1}))}, {one}),
                    test::contains("[wrong]"));
  CHECK_THROWS_WITH(backward({wrong(Tensor::from<float>({2}, {1, 1}))}, {one}), test::contains("f32"));
}

TEST_CASE("parts of a split that were not used have zero gradient") {
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {2, 3, 1});
        const auto again = ops::split_columns(in[0], {4, 2});
        return std::vector<Variable>{ops::multiply(parts[1], parts[1]), ops::add(again[1], again[1])};
      },
      {random_normal({5, 6}, DType::kF64, 3)});
}

TEST_CASE("memory that backward does not read is given back at once") {
  const Variable x(random_normal({1000, 100}, DType::kF64, 1), true);
  const int64_t before = allocator_of(Device::kCpu).statistics().current;
  const Variable y = ops::add(ops::add(ops::add(x, x), x), x);
  // Only the last sum is alive: additions remember nothing.
  CHECK(allocator_of(Device::kCpu).statistics().current - before < 2 * 800000);
}
