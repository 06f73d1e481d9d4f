#include "kernel_cases.h"

#include "ops/embedding.h"
#include "ops/gated_activation.h"
#include "ops/gated_head_norm.h"
#include "ops/gated_linear_attention.h"
#include "ops/linear.h"
#include "ops/linear_cross_entropy.h"
#include "ops/log_decay_gate.h"
#include "ops/residual.h"
#include "ops/rotary.h"
#include "ops/short_convolution.h"
#include "ops/softmax_attention.h"
#include "tensor/launch.h"

namespace sluice::bench {
namespace {

double product_of(std::initializer_list<int64_t> sizes) {
  double product = 1;
  for (const int64_t size : sizes) product *= static_cast<double>(size);
  return product;
}

// Numbers below the vocabulary in no order.
Tensor token_ids(int64_t count, int64_t vocabulary, Device device) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(vocabulary));
  }
  return Tensor::from<int32_t>({count}, ids).to(device);
}

}  // namespace

std::vector<KernelCase> kernel_cases(const KernelSizes& s, DType dtype, Device device) {
  const int64_t n = s.sequences * s.length, c = s.hidden, mlp = 3 * c;
  const int64_t key = c / 2 / s.heads, value = c / s.heads;
  const auto layout = ops::SequenceLayout::uniform(s.sequences, s.length);
  const double one_row = product_of({n, c});
  // Of an element of the residual stream in elements of the compute type.
  const double stream =
      static_cast<double>(size_of(accumulate_dtype(dtype))) / static_cast<double>(size_of(dtype));
  std::vector<KernelCase> all;
  all.push_back({"linear C -> 6C",
                 {{{n, c}}, {{2 * mlp, c}, 0.05, 0, true}},
                 [](const auto& in) { return ops::linear(in[0], in[1]); },
                 2 * product_of({n, c, 2 * mlp}),
                 one_row + product_of({c, 2 * mlp}) + product_of({n, 2 * mlp})});
  const Tensor tokens = token_ids(n, s.vocabulary, device);
  all.push_back({"embedding",
                 {{{s.vocabulary, c}, 1, 0, true}},
                 [tokens](const auto& in) { return ops::embedding(tokens, in[0]); },
                 0,
                 2 * one_row});
  all.push_back(
      {"linear + add + rms_norm",
       {{{n, c}, 1, 0, false, true}, {{n, c}}, {{c, c}, 0.05, 0, true}, {{c}, 1, 0, true, true}},
       [](const auto& in) { return ops::linear_add_rms_norm(in[0], in[1], in[2], in[3], 1e-6).normalised; },
       2 * product_of({n, c, c}),
       (2 + 3 * stream) * one_row + product_of({c, c})});
  all.push_back({"swiglu",
                 {{{n, 2 * mlp}}},
                 [](const auto& in) { return ops::swiglu(in[0]); },
                 10 * product_of({n, mlp}),
                 3 * product_of({n, mlp})});
  all.push_back({"decay gate",
                 {{{n, c / 2}}},
                 [](const auto& in) { return ops::log_decay_gate(in[0], 16); },
                 5 * one_row,
                 one_row});
  all.push_back({"short convolution",
                 {{{n, c}}, {{c, 4}, 0.5, 0, true, true}},
                 [layout](const auto& in) {
                   return ops::short_convolution(in[0], in[1], Variable(), layout, false).output;
                 },
                 12 * one_row,
                 2 * one_row});
  ops::GatedLinearAttentionOptions gla;
  gla.heads = gla.kv_heads = s.heads;
  all.push_back(
      {"gated linear attention",
       {{{n, c / 2}}, {{n, c / 2}}, {{n, c}}, {{n, c / 2}, 0.02, -0.1}},
       [gla, layout](const auto& in) {
         return ops::gated_linear_attention(in[0], in[1], in[2], in[3], Variable(), layout, gla).output;
       },
       4 * product_of({n, s.heads, key, value}),
       product_of({n, s.heads, 3 * key + 2 * value})});
  all.push_back({"gated head norm",
                 {{{n, c}}, {{n, c}}, {{value}, 1, 0, true, true}},
                 [h = s.heads](const auto& in) { return ops::gated_head_norm(in[0], in[1], in[2], h, 1e-6); },
                 12 * one_row,
                 3 * one_row});
  const int64_t attention_heads = c / s.head_size;
  const ops::RotaryTable table = ops::rotary_table_of(layout, s.head_size, 10000, dtype, device);
  all.push_back(
      {"rotary",
       {{{n, c}}},
       [table, attention_heads](const auto& in) { return ops::rotary(in[0], table, attention_heads); },
       3 * one_row,
       2 * one_row});
  ops::SoftmaxAttentionOptions attention;
  attention.heads = attention.kv_heads = attention_heads;
  attention.scale = 0.125;
  attention.q_offsets = attention.k_offsets = layout.indices().offsets;
  all.push_back(
      {"softmax attention",
       {{{n, c}}, {{n, c}}, {{n, c}}},
       [attention](const auto& in) { return ops::softmax_attention(in[0], in[1], in[2], attention); },
       2 * static_cast<double>(s.length) * one_row,
       4 * one_row});
  // Its forward computes the gradients too: three products of N x C x vocabulary.
  all.push_back({"linear + cross-entropy",
                 {{{n, c}}, {{s.vocabulary, c}, 0.02, 0, true}},
                 [tokens, n](const auto& in) {
                   ops::LinearCrossEntropyOptions options;
                   options.denominator = static_cast<double>(n);
                   return ops::linear_cross_entropy(in[0], in[1], tokens, options);
                 },
                 2 * product_of({n, c, s.vocabulary}),
                 one_row + product_of({s.vocabulary, c})});
  return all;
}

}  // namespace sluice::bench
