// What an op keeps of an input for its backward pass: the tensor, or, under selective recomputation, the way
// to make it again.
//
// Ops whose result costs little to compute and much to keep (norms, gated activations, gates, rotations)
// attach a recipe to it while a SelectiveRecomputeScope lives. An op that would keep such a result keeps the
// recipe instead, and what the recipe reads is kept by the first op anyway. The result is the same bit for
// bit.
#pragma once

#include "autograd/variable.h"

namespace sluice {

// While it lives, ops of this thread attach recipes.
class SelectiveRecomputeScope {
 public:
  explicit SelectiveRecomputeScope(bool on);
  ~SelectiveRecomputeScope();
  SelectiveRecomputeScope(const SelectiveRecomputeScope&) = delete;
  SelectiveRecomputeScope& operator=(const SelectiveRecomputeScope&) = delete;
  static bool active();

 private:
  bool previous_;
};

class SavedTensor {
 public:
  SavedTensor() = default;
  explicit SavedTensor(const Variable& variable);

  Tensor get() const { return recipe_ ? (*recipe_)() : tensor_; }

 private:
  Tensor tensor_;
  std::shared_ptr<const Recipe> recipe_;
};

}  // namespace sluice
