// Backward against central differences, in double.
//
//   check_gradients([](const std::vector<Variable>& in) { return std::vector<Variable>{ops::add(in[0],
//   in[1])}; },
//                   {random_normal({3, 4}, DType::kF64, 1), random_normal({3, 4}, DType::kF64, 2)});
#pragma once

#include <functional>
#include <vector>

#include "autograd/variable.h"

namespace sluice::test {

using DifferentiableFunction = std::function<std::vector<Variable>(const std::vector<Variable>&)>;

struct GradientCheckOptions {
  double step = 1e-5;
  double tolerance = 1e-6;  // relative RMS of each input's gradient; the elementwise bound is 10 times it
  uint64_t seed = 1;        // of the cotangents
};

// Draws a random cotangent for every (f64) output and compares the gradient of their inner product with
// central differences over every element of every input: all of the Jacobian is exercised, and every input is
// left to be differentiated both alone and together with the others. Inputs that are i32 are passed on as
// they are.
void check_gradients(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                     const GradientCheckOptions& options = {});

// The same along one random direction of all inputs: for sizes where a difference per element is too slow.
void check_directional_gradient(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                                const GradientCheckOptions& options = {});

// The gradients of sum_i <function(inputs)[i], cotangents[i]> for each floating input; undefined for i32
// inputs.
std::vector<Tensor> gradients_of(const DifferentiableFunction& function, const std::vector<Tensor>& inputs,
                                 const std::vector<Tensor>& cotangents);

}  // namespace sluice::test
