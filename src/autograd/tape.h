// What an op records: its inputs' places on the tape and a function that turns output gradients into input
// gradients. The function holds just the tensors it reads; everything else is freed as soon as the caller
// lets go.
//
//   return Tape::record("silu", {x}, {y}, [x = x.value()](BackwardContext& context) {
//     GradientTarget dx = context.target(0);
//     ... write (or add, when dx.accumulate) the gradient into dx.tensor ...
//   });
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "autograd/variable.h"

namespace sluice {

class BackwardContext;
using BackwardFunction = std::function<void(BackwardContext&)>;

// One input of a recorded op: an output of an earlier node, or a leaf, or nothing that needs a gradient.
struct TapeEdge {
  std::shared_ptr<TapeNode> node;
  int output = 0;
  std::shared_ptr<GradientLeaf> leaf;

  bool needed() const { return node != nullptr || leaf != nullptr; }
};

// The gradient of one output, filled by the ops that used it.
struct OutputSlot {
  Shape shape;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  Tensor gradient;
  bool shared = false;  // the gradient's memory belongs to somebody else: copy before adding
  std::function<Tensor()> make_gradient;  // where the gradient is to be written, when the node has a wish
};

struct TapeNode {
  const char* name = "";
  uint64_t sequence = 0;  // a node comes after all its inputs
  std::vector<TapeEdge> inputs;
  std::vector<OutputSlot> outputs;
  BackwardFunction backward;
};

// The memory an op writes an input's gradient to. `accumulate`: add to what is there; otherwise overwrite.
struct GradientTarget {
  Tensor tensor;
  bool accumulate = false;
};

class BackwardContext {
 public:
  explicit BackwardContext(TapeNode& node) : node_(node) {}

  // The gradient of output i; undefined when nothing used that output.
  const Tensor& output_gradient(int i) const { return node_.outputs[static_cast<size_t>(i)].gradient; }
  // The same for the last look at it: its memory is free as soon as the op lets go.
  Tensor take_output_gradient(int i) {
    return std::exchange(node_.outputs[static_cast<size_t>(i)].gradient, Tensor());
  }
  // The same as output_gradient(), zeros in place of undefined.
  Tensor output_gradient_or_zeros(int i) const;
  // Whether input i wants a gradient at all.
  bool needs(int i) const { return node_.inputs[static_cast<size_t>(i)].needed(); }
  // Memory for input i's gradient. The op must then write all of it. One call an input.
  GradientTarget target(int i);
  // The same for an op that adds to its target whatever it holds: memory that begins at zero. Undefined where
  // input i needs no gradient.
  Tensor sum_target(int i);
  // Gives a finished gradient; its memory is taken over without a copy when it is the first.
  // Error(kInternal) names the op when shape or dtype differ from the input's.
  void add(int i, const Tensor& gradient);

 private:
  TapeNode& node_;
};

class Tape {
 public:
  // Puts `outputs` on the tape as functions of `inputs`. When recording is off or no input requires a
  // gradient, they come back as plain values and `backward` is dropped.
  static std::vector<Variable> record(const char* name, const std::vector<Variable>& inputs,
                                      const std::vector<Tensor>& outputs, BackwardFunction backward);
  // The same for an op with one output.
  static Variable record_one(const char* name, const std::vector<Variable>& inputs, const Tensor& output,
                             BackwardFunction backward);
  // Whether record() of these inputs would record, so that an op can skip what only backward needs.
  static bool would_record(const std::vector<Variable>& inputs);
  static TapeEdge edge_of(const Variable& variable);
  static std::shared_ptr<TapeNode> node_of(const Variable& variable) { return variable.node_; }
};

}  // namespace sluice
