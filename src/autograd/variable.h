// A tensor on the tape: its value, and where its gradient comes from.
//
//   Variable w = Variable::parameter(value, gradient);   // gradient accumulates in the tensor given
//   Variable loss = ops::...(x, w);
//   backward(loss);
//
// Copies share identity. A Variable made while gradients are off, or from inputs that need none, is a plain
// value.
#pragma once

#include <functional>
#include <memory>

#include "tensor/tensor.h"

namespace sluice {

struct TapeNode;

// Where the gradient of a variable that no op produced ends up.
struct GradientLeaf {
  Tensor gradient;         // undefined until the first gradient, unless given by the owner
  bool restarted = false;  // whether the next contribution replaces what the gradient holds
  Shape shape;             // what a gradient must look like
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  std::function<void()> on_gradient_ready;  // called once a backward pass, after the last contribution
};

// Makes a variable's value again, from tensors it holds.
using Recipe = std::function<Tensor()>;

class Variable {
 public:
  Variable() = default;
  // A constant, or with `requires_grad` a leaf whose gradient is made by backward().
  explicit Variable(Tensor value, bool requires_grad = false);
  // A leaf whose gradient accumulates (+=) in `gradient`; the owner zeroes or restarts it.
  static Variable parameter(Tensor value, Tensor gradient);

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  int64_t size(int dimension) const { return value_.size(dimension); }
  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  bool requires_grad() const { return leaf_ != nullptr || node_ != nullptr; }
  bool is_leaf() const { return leaf_ != nullptr; }
  // The gradient of a leaf; undefined before backward() reached it.
  Tensor gradient() const;
  void clear_gradient();
  // The next contribution replaces what the gradient holds: as zeroing it, without the passes over it.
  void restart_gradient() const;
  // Zeroes a gradient that was restarted and to which nothing came.
  void settle_gradient() const;
  void set_gradient_hook(std::function<void()> hook);
  // The value alone, off the tape.
  Variable detach() const { return Variable(value_); }
  // How to make the value again, or null (autograd/saved_tensor.h).
  const std::shared_ptr<const Recipe>& recipe() const { return recipe_; }
  void set_recipe(Recipe recipe) { recipe_ = std::make_shared<const Recipe>(std::move(recipe)); }

 private:
  friend class Tape;
  Tensor value_;
  std::shared_ptr<GradientLeaf> leaf_;
  std::shared_ptr<TapeNode> node_;
  int output_ = 0;
  std::shared_ptr<const Recipe> recipe_;
};

// While it lives, ops of this thread record nothing.
class NoGradScope {
 public:
  NoGradScope();
  ~NoGradScope();
  NoGradScope(const NoGradScope&) = delete;
  NoGradScope& operator=(const NoGradScope&) = delete;

 private:
  bool previous_;
};
// The opposite, for recomputation inside a backward pass.
class GradScope {
 public:
  GradScope();
  ~GradScope();
  GradScope(const GradScope&) = delete;
  GradScope& operator=(const GradScope&) = delete;

 private:
  bool previous_;
};
bool grad_enabled();

}  // namespace sluice
