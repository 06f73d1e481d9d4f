#include "ops/activation.h"

#include <cmath>

#include "core/error.h"
#include "ops/elementwise.h"
#include "ops/gated_activation.h"
#include "ops/gated_activation_parts.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using ops::Activation;
using test::random_normal;

namespace {

struct Case {
  const char* name;
  Activation function;
  double (*definition)(double);
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double log_one_plus_exp(double x) { return std::log1p(std::exp(x)); }

const Case kCases[] = {
    {"identity", Activation::kIdentity, [](double x) { return x; }},
    {"relu", Activation::kRelu, [](double x) { return std::max(x, 0.0); }},
    {"relu6", Activation::kRelu6, [](double x) { return std::min(std::max(x, 0.0), 6.0); }},
    {"relu2", Activation::kSquaredRelu, [](double x) { return x > 0 ? x * x : 0.0; }},
    {"sigmoid", Activation::kSigmoid, logistic},
    {"logsigmoid", Activation::kLogSigmoid, [](double x) { return std::log(logistic(x)); }},
    {"silu", Activation::kSilu, [](double x) { return x * logistic(x); }},
    {"gelu", Activation::kGelu, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
    {"gelu_new", Activation::kGeluTanh,
     [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }},
    {"tanh", Activation::kTanh, [](double x) { return std::tanh(x); }},
    {"elu", Activation::kElu, [](double x) { return x > 0 ? x : std::exp(x) - 1; }},
    {"softplus", Activation::kSoftplus, log_one_plus_exp},
    {"mish", Activation::kMish, [](double x) { return x * std::tanh(log_one_plus_exp(x)); }},
};

test::DifferentiableFunction applied(Activation function) {
  return [function](const std::vector<Variable>& in) {
    return std::vector<Variable>{ops::activation(in[0], function)};
  };
}

bool has_nan(const Tensor& tensor) {
  for (const double value : tensor.to(DType::kF64).to_vector<double>()) {
    if (std::isnan(value)) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("activation: values, Jacobian, f32 against f64, for every name") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    CHECK(ops::parse_activation(c.name) == c.function);
    const Tensor x = random_normal({5, 37}, DType::kF64, 3, 3.0);
    std::vector<double> values = x.to_vector<double>();
    for (double& value : values) value = c.definition(value);
    const Tensor expected = Tensor::from<double>(x.shape(), values);
    const Tensor actual = ops::activation(Variable(x), c.function).value();
    CHECK_CLOSE(actual, expected, 1e-14, 1e-13);
    CHECK_CLOSE(ops::activation(Variable(x.to(DType::kF32)), c.function).value(), actual, 2e-7, 1e-6);
    test::check_gradients(applied(c.function), {random_normal({3, 17}, DType::kF64, 1, 3.0)});
    const Tensor cotangent = random_normal(x.shape(), DType::kF64, 4);
    const auto slope = [&](DType dtype) {
      return test::gradients_of(applied(c.function), {x.to(dtype)}, {cotangent.to(dtype)})[0];
    };
    CHECK_CLOSE(slope(DType::kF32), slope(DType::kF64), 1e-6, 1e-5);
  }
}

TEST_CASE("activation: nothing turns to NaN at large arguments, and corners have slope 0") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      // Up to the largest number, whose square and cube overflow.
      const double largest = dtype == DType::kF32 ? 3e38 : 1e308;
      std::vector<double> values;
      for (const double size : {0.0, 20.0, 90.0, 104.0, 1e4, 1e18, 1e25, largest}) {
        values.push_back(size);
        values.push_back(-size);
      }
      const Tensor x = Tensor::from<double>({2, 8}, values).to(dtype);
      const Tensor ones = Tensor::from<double>({2, 8}, std::vector<double>(16, 1.0)).to(dtype);
      CHECK_FALSE(has_nan(ops::activation(Variable(x), c.function).value()));
      CHECK_FALSE(has_nan(test::gradients_of(applied(c.function), {x}, {ones})[0]));
    }
  }
  const Tensor corners = Tensor::from<double>({3}, {0.0, 6.0, -0.0});
  const Tensor ones = Tensor::from<double>({3}, {1.0, 1.0, 1.0});
  CHECK(test::gradients_of(applied(Activation::kRelu), {corners}, {ones})[0].to_vector<double>() ==
        std::vector<double>{0, 1, 0});
  CHECK(test::gradients_of(applied(Activation::kRelu6), {corners}, {ones})[0].to_vector<double>() ==
        std::vector<double>{0, 0, 0});
}

TEST_CASE("activation on strided slices") {
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {3, 5});
        return std::vector<Variable>{ops::activation(parts[0], Activation::kSilu),
                                     ops::add(parts[1], ops::activation(parts[1], Activation::kTanh))};
      },
      {random_normal({4, 8}, DType::kF64, 1)});
}

TEST_CASE("parse_activation knows synonyms and lists the names it knows") {
  CHECK(ops::parse_activation("swish") == Activation::kSilu);
  CHECK(ops::parse_activation("gelu_pytorch_tanh") == Activation::kGeluTanh);
  CHECK(ops::parse_activation("sqrelu") == Activation::kSquaredRelu);
  try {
    ops::parse_activation("swiish");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 2);
    CHECK_THAT(error.what(), test::contains("unknown activation \"swiish\"; known are elu, gelu,"));
  }
}

TEST_CASE("gated_activation equals its definition, value and gradients, contiguous and strided") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const auto fused = [&](const std::vector<Variable>& in) {
      return std::vector<Variable>{ops::gated_activation(in[0], c.function)};
    };
    const auto composed = [&](const std::vector<Variable>& in) {
      const auto parts = ops::split_columns(in[0], {19, 19});
      return std::vector<Variable>{ops::multiply(ops::activation(parts[0], c.function), parts[1])};
    };
    const Tensor x = random_normal({7, 38}, DType::kF64, 1);
    const Tensor cotangent = random_normal({7, 19}, DType::kF64, 2);
    CHECK_CLOSE(fused({Variable(x)})[0].value(), composed({Variable(x)})[0].value(), 1e-15, 1e-14);
    CHECK_CLOSE(test::gradients_of(fused, {x}, {cotangent})[0],
                test::gradients_of(composed, {x}, {cotangent})[0], 1e-15, 1e-14);
  }
  // The second use of a slice accumulates into its gradient.
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {4, 6});
        return std::vector<Variable>{ops::swiglu(parts[1]), ops::swiglu(parts[1]), parts[0]};
      },
      {random_normal({3, 10}, DType::kF64, 1)});
}

TEST_CASE("swiglu: f32 against f64") {
  const auto swiglu = [](const std::vector<Variable>& in) {
    return std::vector<Variable>{ops::swiglu(in[0])};
  };
  const Tensor x = random_normal({33, 514}, DType::kF64, 1), dy = random_normal({33, 257}, DType::kF64, 2);
  CHECK_CLOSE(ops::swiglu(Variable(x.to(DType::kF32))).value(), ops::swiglu(Variable(x)).value(), 2e-7, 1e-6);
  CHECK_CLOSE(test::gradients_of(swiglu, {x.to(DType::kF32)}, {dy.to(DType::kF32)})[0],
              test::gradients_of(swiglu, {x}, {dy})[0], 3e-7, 1e-6);
}

TEST_CASE("the gradient of a gated activation leaves its result, too, if it must in the place of dy") {
  const Tensor wide = random_normal({65, 2 * 37 + 3}, DType::kF32, 1);
  const Tensor gate_up = wide.narrow(1, 3, 2 * 37), dy = random_normal({65, 37}, DType::kF32, 2);
  const Tensor expected = ops::activate_gated(gate_up, Activation::kSilu);
  const Tensor dgate_up = Tensor::empty(gate_up.shape(), DType::kF32, Device::kCpu),
               without = dgate_up.clone();
  ops::gated_activation_gradient(gate_up, Activation::kSilu, dy, {without, false});
  const Tensor y = Tensor::empty(dy.shape(), DType::kF32, Device::kCpu);
  ops::gated_activation_gradient(gate_up, Activation::kSilu, dy, {dgate_up, false}, y);
  CHECK_CLOSE(y, expected, 0, 0);
  CHECK_CLOSE(dgate_up, without, 0, 0);
  const Tensor in_place = dy.clone();
  ops::gated_activation_gradient(gate_up, Activation::kSilu, in_place, {dgate_up, false}, in_place);
  CHECK_CLOSE(in_place, expected, 0, 0);
  CHECK_CLOSE(dgate_up, without, 0, 0);
}

TEST_CASE("gated_activation refuses odd widths") {
  CHECK_THROWS_WITH(ops::swiglu(Variable(random_normal({2, 5}, DType::kF32, 1))),
                    test::contains("[gated_activation] expected gate_up of shape [..., 2 I], got [2, 5]"));
}
