#include "support/gradient_check.h"

#include "autograd/backward.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"

namespace sluice::test {
namespace {

std::vector<Tensor> outputs_of(const DifferentiableFunction& function, const std::vector<Tensor>& inputs) {
  const NoGradScope no_grad;
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input);
  std::vector<Tensor> outputs;
  for (const Variable& output : function(variables)) outputs.push_back(output.value());
  return outputs;
}

double inner_product(const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) {
  double sum = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto values = outputs[i].to_vector<double>(), weights = cotangents[i].to_vector<double>();
    for (size_t j = 0; j < values.size(); ++j) sum += values[j] * weights[j];
  }
  return sum;
}

std::vector<Tensor> random_cotangents(const DifferentiableFunction& function,
                                      const std::vector<Tensor>& inputs, uint64_t seed) {
  std::vector<Tensor> cotangents;
  for (const Tensor& output : outputs_of(function, inputs)) {
    cotangents.push_back(random_normal(output.shape(), DType::kF64, seed++));
  }
  return cotangents;
}

// `wanted[i]`: input i is a leaf; the others are constants.
std::vector<Tensor> gradients_for(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& cotangents, const std::vector<bool>& wanted) {
  std::vector<Variable> variables;
  for (size_t i = 0; i < inputs.size(); ++i) variables.emplace_back(inputs[i], wanted[i]);
  std::vector<Variable> roots;
  std::vector<Tensor> gradients;
  const auto outputs = function(variables);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    roots.push_back(outputs[i]);
    gradients.push_back(cotangents[i]);
  }
  backward(roots, gradients);
  std::vector<Tensor> results;
  for (const Variable& variable : variables) {
    results.push_back(variable.requires_grad() ? variable.gradient() : Tensor());
  }
  return results;
}

}  // namespace

std::vector<Tensor> gradients_of(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                                 const std::vector<Tensor>& cotangents) {
  std::vector<bool> wanted;
  for (const Tensor& input : inputs) wanted.push_back(is_floating(input.dtype()));
  return gradients_for(function, inputs, cotangents, wanted);
}

void check_gradients(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                     const GradientCheckOptions& options) {
  const auto cotangents = random_cotangents(function, inputs, options.seed);
  const auto together = gradients_of(function, inputs, cotangents);
  for (size_t which = 0; which < inputs.size(); ++which) {
    if (!is_floating(inputs[which].dtype())) continue;
    INFO("gradient of input " << which);
    std::vector<Tensor> moved = inputs;
    moved[which] = inputs[which].clone();
    double* values = moved[which].data<double>();
    std::vector<double> numeric(static_cast<size_t>(moved[which].numel()));
    for (size_t i = 0; i < numeric.size(); ++i) {
      const double original = values[i];
      values[i] = original + options.step;
      const double above = inner_product(outputs_of(function, moved), cotangents);
      values[i] = original - options.step;
      const double below = inner_product(outputs_of(function, moved), cotangents);
      values[i] = original;
      numeric[i] = (above - below) / (2 * options.step);
    }
    const Tensor expected = Tensor::from<double>(inputs[which].shape(), numeric);
    CHECK_CLOSE(together[which], expected, options.tolerance, 10 * options.tolerance);
    std::vector<bool> only(inputs.size(), false);
    only[which] = true;
    const Tensor alone = gradients_for(function, inputs, cotangents, only)[which];
    CHECK_CLOSE(alone, expected, options.tolerance, 10 * options.tolerance);
  }
}

void check_directional_gradient(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                                const GradientCheckOptions& options) {
  const auto cotangents = random_cotangents(function, inputs, options.seed);
  const auto gradients = gradients_of(function, inputs, cotangents);
  std::vector<Tensor> above = inputs, below = inputs;
  double analytic = 0, scale = 0;
  for (size_t which = 0; which < inputs.size(); ++which) {
    if (!is_floating(inputs[which].dtype())) continue;
    const auto direction =
        random_normal(inputs[which].shape(), DType::kF64, options.seed + 1000 + which).to_vector<double>();
    const auto gradient = gradients[which].to_vector<double>();
    above[which] = inputs[which].clone();
    below[which] = inputs[which].clone();
    for (size_t i = 0; i < direction.size(); ++i) {
      above[which].data<double>()[i] += options.step * direction[i];
      below[which].data<double>()[i] -= options.step * direction[i];
      analytic += gradient[i] * direction[i];
      scale += std::abs(gradient[i] * direction[i]);
    }
  }
  const double numeric = (inner_product(outputs_of(function, above), cotangents) -
                          inner_product(outputs_of(function, below), cotangents)) /
                         (2 * options.step);
  INFO("directional derivative " << analytic << ", by differences " << numeric);
  CHECK(std::abs(analytic - numeric) <= options.tolerance * scale);
}

}  // namespace sluice::test
