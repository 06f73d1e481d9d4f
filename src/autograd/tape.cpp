#include "autograd/tape.h"

#include <atomic>
#include <utility>

namespace sluice {
namespace {

std::atomic<uint64_t> next_sequence{1};

// Adds `gradient` to what a slot or leaf holds. `shared` says whether the held memory may be written.
void accumulate(Tensor& held, bool& shared, const Tensor& gradient) {
  if (!held.defined()) {
    held = gradient;
    shared = true;
    return;
  }
  if (shared) held = held.clone();
  shared = false;
  held.add_from(gradient);
}

}  // namespace

Tensor BackwardContext::output_gradient_or_zeros(int i) const {
  const OutputSlot& slot = node_.outputs[static_cast<size_t>(i)];
  if (slot.gradient.defined()) return slot.gradient;
  return Tensor::zeros(slot.shape, slot.dtype, slot.device);
}

GradientTarget BackwardContext::target(int i) {
  const TapeEdge& edge = node_.inputs[static_cast<size_t>(i)];
  SLUICE_CHECK(edge.needed(), kInternal, "[{}] input {} needs no gradient", node_.name, i);
  if (edge.leaf != nullptr) {
    GradientLeaf& leaf = *edge.leaf;
    if (leaf.gradient.defined()) return {leaf.gradient, !std::exchange(leaf.restarted, false)};
    const MemoryClassScope memory(MemoryClass::kGradients);
    leaf.gradient = Tensor::empty(leaf.shape, leaf.dtype, leaf.device);
    return {leaf.gradient, false};
  }
  OutputSlot& slot = edge.node->outputs[static_cast<size_t>(edge.output)];
  if (slot.gradient.defined()) {
    if (slot.shared) slot.gradient = slot.gradient.clone();
    slot.shared = false;
    return {slot.gradient, true};
  }
  slot.gradient =
      slot.make_gradient ? slot.make_gradient() : Tensor::empty(slot.shape, slot.dtype, slot.device);
  slot.shared = false;
  return {slot.gradient, false};
}

Tensor BackwardContext::sum_target(int i) {
  if (!needs(i)) return Tensor();
  const GradientTarget sum = target(i);
  if (!sum.accumulate) sum.tensor.fill_zero();
  return sum.tensor;
}

void BackwardContext::add(int i, const Tensor& gradient) {
  const TapeEdge& edge = node_.inputs[static_cast<size_t>(i)];
  if (!edge.needed()) return;
  const Shape& shape =
      edge.leaf ? edge.leaf->shape : edge.node->outputs[static_cast<size_t>(edge.output)].shape;
  const DType dtype =
      edge.leaf ? edge.leaf->dtype : edge.node->outputs[static_cast<size_t>(edge.output)].dtype;
  SLUICE_CHECK(gradient.shape() == shape && gradient.dtype() == dtype, kInternal,
               "[{}] gradient of input {} is {} {}, the input is {} {}", node_.name, i,
               name_of(gradient.dtype()), gradient.shape().to_string(), name_of(dtype), shape.to_string());
  if (edge.leaf != nullptr) {
    GradientLeaf& leaf = *edge.leaf;
    if (leaf.gradient.defined()) {
      if (std::exchange(leaf.restarted, false)) {
        leaf.gradient.copy_from(gradient);
      } else {
        leaf.gradient.add_from(gradient);
      }
    } else {
      leaf.gradient = gradient.clone();
    }
    return;
  }
  OutputSlot& slot = edge.node->outputs[static_cast<size_t>(edge.output)];
  accumulate(slot.gradient, slot.shared, gradient);
}

bool Tape::would_record(const std::vector<Variable>& inputs) {
  if (!grad_enabled()) return false;
  for (const Variable& input : inputs) {
    if (input.requires_grad()) return true;
  }
  return false;
}

TapeEdge Tape::edge_of(const Variable& variable) {
  return {variable.node_, variable.output_, variable.leaf_};
}

std::vector<Variable> Tape::record(const char* name, const std::vector<Variable>& inputs,
                                   const std::vector<Tensor>& outputs, BackwardFunction backward) {
  std::vector<Variable> variables;
  variables.reserve(outputs.size());
  for (const Tensor& output : outputs) variables.emplace_back(output);
  if (!would_record(inputs)) return variables;
  auto node = std::make_shared<TapeNode>();
  node->name = name;
  node->sequence = next_sequence++;
  node->backward = std::move(backward);
  for (const Variable& input : inputs) node->inputs.push_back(edge_of(input));
  for (size_t i = 0; i < outputs.size(); ++i) {
    OutputSlot slot;
    if (outputs[i].defined()) {
      slot.shape = outputs[i].shape();
      slot.dtype = outputs[i].dtype();
      slot.device = outputs[i].device();
      variables[i].node_ = node;
      variables[i].output_ = static_cast<int>(i);
    }
    node->outputs.push_back(std::move(slot));
  }
  return variables;
}

Variable Tape::record_one(const char* name, const std::vector<Variable>& inputs, const Tensor& output,
                          BackwardFunction backward) {
  return record(name, inputs, {output}, std::move(backward))[0];
}

}  // namespace sluice
