#include "nn/linear.h"

#include "ops/linear.h"
#include "ops/split_columns.h"

namespace sluice::nn {

Linear::Linear(int64_t in, int64_t out, bool bias) : Linear(in, std::vector<Projection>{{"", out}}, bias) {}

Linear::Linear(int64_t in, std::vector<Projection> projections, bool bias) : in_(in) {
  std::vector<CheckpointPart> weights, biases;
  std::string merged;  // "q_proj+k_proj.": the parameter's own name, unlike any checkpoint name
  for (const Projection& projection : projections) {
    const std::string prefix = projection.name.empty() ? "" : projection.name + ".";
    if (!projection.name.empty()) merged += (merged.empty() ? "" : "+") + projection.name;
    weights.push_back({prefix + "weight", out_, projection.width, Shape{projection.width, in}});
    biases.push_back({prefix + "bias", out_, projection.width, Shape{projection.width}});
    widths_.push_back(projection.width);
    out_ += projection.width;
  }
  if (!merged.empty()) merged += ".";
  weight_ = &add_parameter(merged + "weight", Shape{out_, in}, ParameterRole::kMatrix, Initializer::kNormal);
  weight_->set_parts(std::move(weights));
  if (!bias) return;
  bias_ = &add_parameter(merged + "bias", Shape{out_}, ParameterRole::kBias, Initializer::kZeros);
  bias_->set_parts(std::move(biases));
}

Variable Linear::forward(const Variable& x) const {
  return ops::linear(x, weight_->variable(), bias_ != nullptr ? bias_->variable() : Variable());
}

Branch Linear::branch(const ops::ProductInput& x) const {
  SLUICE_ASSERT(bias_ == nullptr);
  return {x, weight_->variable()};
}

std::vector<Variable> Linear::forward_split(const Variable& x) const {
  return ops::split_columns(forward(x), widths_);
}

}  // namespace sluice::nn
