#include "autograd/checkpoint.h"

#include "autograd/backward.h"
#include "autograd/tape.h"

namespace sluice {

std::vector<Variable> checkpoint(const RecomputableFunction& function, const std::vector<Variable>& inputs) {
  std::vector<Tensor> outputs;
  std::vector<Tensor> values;
  {
    const NoGradScope no_grad;
    std::vector<Variable> plain;
    for (const Variable& input : inputs) {
      plain.push_back(input.detach());
      values.push_back(input.value());
    }
    for (const Variable& output : function(plain)) outputs.push_back(output.value());
  }
  return Tape::record("checkpoint", inputs, outputs, [function, values](BackwardContext& context) {
    const GradScope grad;
    std::vector<Variable> leaves;
    for (size_t i = 0; i < values.size(); ++i) {
      leaves.emplace_back(values[i], context.needs(static_cast<int>(i)));
    }
    const std::vector<Variable> again = function(leaves);
    std::vector<Variable> roots;
    std::vector<Tensor> gradients;
    for (size_t i = 0; i < again.size(); ++i) {
      const Tensor& gradient = context.output_gradient(static_cast<int>(i));
      if (!gradient.defined() || !again[i].requires_grad()) continue;
      roots.push_back(again[i]);
      gradients.push_back(gradient);
    }
    backward(roots, gradients);
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!leaves[i].requires_grad()) continue;
      if (const Tensor gradient = leaves[i].gradient(); gradient.defined()) {
        context.add(static_cast<int>(i), gradient);
      }
    }
  });
}

}  // namespace sluice
