// A trained tensor: its place in the model, how it starts, and the names it has in checkpoints.
//
// One parameter may hold several checkpoint tensors as consecutive rows (q, k, v, ... of a merged
// projection), so that one matrix product serves them all while files keep the separate names of
// flash-linear-attention.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/variable.h"

namespace sluice::nn {

// What a parameter is, for weight decay and initialisation.
enum class ParameterRole { kMatrix, kEmbedding, kNorm, kBias, kConvolution };

enum class Initializer { kNormal, kZeros, kOnes };  // kNormal: N(0, initializer_range)

// Rows [first_row, first_row + rows) of a parameter, as a checkpoint names and shapes them.
struct CheckpointPart {
  std::string name;  // "q_proj.weight", made absolute by the modules above
  int64_t first_row = 0;
  int64_t rows = 0;
  Shape shape;  // as stored; as many elements as the rows
};

class Parameter {
 public:
  Parameter(std::string name, const Shape& shape, ParameterRole role, Initializer initializer);

  const std::string& name() const { return name_; }
  const Shape& shape() const { return shape_; }
  int64_t numel() const { return shape_.numel(); }
  ParameterRole role() const { return role_; }
  Initializer initializer() const { return initializer_; }
  // Whether layers use it in fp32 where they compute in bf16: norms' scales and convolutions, few numbers
  // that many results are multiplied by.
  bool is_exact() const { return role_ == ParameterRole::kNorm || role_ == ParameterRole::kConvolution; }
  const std::vector<CheckpointPart>& parts() const { return parts_; }
  // Cuts the rows into named parts, first to last; they must cover all rows.
  void set_parts(std::vector<CheckpointPart> parts);
  void prefix_names(const std::string& prefix);

  // The value and, when trained, its gradient; undefined before bind().
  const Variable& variable() const {
    if (before_use_) before_use_();
    return variable_;
  }
  // Of the gradient alone (autograd/variable.h).
  void restart_gradient() const { variable_.restart_gradient(); }
  void settle_gradient() const { variable_.settle_gradient(); }
  // Called whenever somebody is about to use the value through variable(), as layers do in forward passes.
  void set_use_hook(std::function<void()> hook) { before_use_ = std::move(hook); }
  // The value that the optimizer updates and files hold: the same memory as variable()'s, or, where models
  // compute in bf16, a copy in fp32 that it is rounded from.
  const Tensor& master() const { return master_; }
  // Gives the parameter its memory. An undefined gradient makes it a constant, an undefined master is the
  // value.
  void bind(const Tensor& value, const Tensor& gradient, const Tensor& master = Tensor());
  // The rows of one part of `whole` (a tensor of this parameter's shape: value, gradient, moment), in stored
  // shape.
  Tensor part_of(const Tensor& whole, const CheckpointPart& part) const;

 private:
  std::string name_;
  Shape shape_;
  ParameterRole role_;
  Initializer initializer_;
  std::vector<CheckpointPart> parts_;
  Variable variable_;
  Tensor master_;
  std::function<void()> before_use_;
};

// Fills the master with its initial numbers. They depend on the seed and the checkpoint names alone, not on
// merging, the order of parameters or the number of threads.
void initialize(const Parameter& parameter, uint64_t seed, double initializer_range);

// Memory of its own for each parameter, zeroed gradients (f32 under bf16) where `trained`. Training uses
// optim's arena instead.
void allocate(const std::vector<Parameter*>& parameters, DType dtype, Device device, bool trained);

}  // namespace sluice::nn
