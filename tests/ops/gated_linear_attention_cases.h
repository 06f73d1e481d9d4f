// Inputs of gated linear attention for its tests.
#pragma once

#include <cstring>
#include <vector>

#include "ops/gated_linear_attention.h"
#include "support/random_tensor.h"

namespace sluice::test {

struct AttentionSizes {
  int64_t heads = 1, kv_heads = 1, key_size = 1, value_size = 1;
};

// q, k, v, g, initial state; gates uniform in [gate_low, 0].
inline std::vector<Tensor> attention_inputs(const AttentionSizes& s, int64_t tokens, int64_t slots,
                                            DType dtype, double gate_low = -1.0) {
  return {random_normal({tokens, s.heads * s.key_size}, dtype, 1),
          random_normal({tokens, s.kv_heads * s.key_size}, dtype, 2),
          random_normal({tokens, s.kv_heads * s.value_size}, dtype, 3),
          random_uniform({tokens, s.kv_heads * s.key_size}, dtype, 4, gate_low, 0.0),
          random_normal({slots, s.kv_heads, s.key_size, s.value_size}, dtype, 5)};
}

inline ops::GatedLinearAttentionOptions attention_options(const AttentionSizes& s) {
  ops::GatedLinearAttentionOptions options;
  options.heads = s.heads, options.kv_heads = s.kv_heads;
  options.want_final_state = true;
  return options;
}

// The op as a function of its five inputs, for the gradient checks.
inline auto attention(const AttentionSizes& s, const ops::SequenceLayout& layout) {
  return [=](const std::vector<Variable>& in) {
    const auto result =
        ops::gated_linear_attention(in[0], in[1], in[2], in[3], in[4], layout, attention_options(s));
    return std::vector<Variable>{result.output, result.final_state};
  };
}

inline std::vector<Tensor> values_of(const std::vector<Variable>& variables) {
  std::vector<Tensor> values;
  for (const Variable& variable : variables) values.push_back(variable.value());
  return values;
}

inline std::vector<Variable> constants(const std::vector<Tensor>& tensors) {
  return std::vector<Variable>(tensors.begin(), tensors.end());
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.bytes())) == 0;
}

}  // namespace sluice::test
