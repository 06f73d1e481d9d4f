// The mixer against its definition in single ops, where nothing is turned in place: the same bits, whatever
// is recomputed and however the batch is cut.
#include "mixers/softmax_attention.h"

#include <cmath>

#include "autograd/backward.h"
#include "autograd/checkpoint.h"
#include "autograd/saved_tensor.h"
#include "ops/earlier_rows.h"
#include "ops/gated_head_norm.h"
#include "ops/linear.h"
#include "ops/rotary.h"
#include "ops/sequence_part.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

enum class Mode { kNone, kSelective, kLayer, kEvaluation };

// A group of one process.
class OnlyPart final : public ops::SequencePart {
 public:
  OnlyPart() : SequencePart(0, 1) {}
  Tensor gather(const Tensor& mine) const override { return mine.clone().view({1, mine.numel()}); }
  Tensor exchange(const Tensor& mine) const override { return mine.clone(); }
};

// Parameters in order: the merged projection, its bias, the norms' scales, the output projection.
Variable defined_by_ops(const SoftmaxAttentionSizes& sizes, const std::vector<nn::Parameter*>& parameters,
                        const Variable& x, const ops::SequenceLayout& layout) {
  size_t next = 0;
  const auto parameter = [&](bool there) { return there ? parameters[next++]->variable() : Variable(); };
  const Variable weight = parameter(true), bias = parameter(sizes.qkv_bias);
  const Variable q_norm = parameter(sizes.qk_norm), k_norm = parameter(sizes.qk_norm);
  const auto parts =
      ops::split_columns(ops::linear(x, weight, bias), {sizes.hidden_size, sizes.kv_dim(), sizes.kv_dim()});
  const ops::RotaryTable table =
      ops::rotary_table_of(layout, sizes.head_dim(), sizes.rope_theta, x.dtype(), x.device());
  const auto turned = [&](const Variable& part, const Variable& scale, int64_t heads) {
    const Variable normalised =
        sizes.qk_norm ? ops::gated_head_norm(part, Variable(), scale, heads, SoftmaxAttention::kHeadNormEps)
                      : part;
    return ops::rotary(normalised, table, heads);
  };
  const Variable q = turned(parts[0], q_norm, sizes.num_heads);
  Variable k = turned(parts[1], k_norm, sizes.num_kv_heads), v = parts[2];
  ops::SoftmaxAttentionOptions options;
  options.heads = sizes.num_heads, options.kv_heads = sizes.num_kv_heads;
  options.window = sizes.window_size.value_or(0);
  options.scale = 1.0 / std::sqrt(static_cast<double>(sizes.head_dim()));
  options.q_offsets = options.k_offsets = layout.indices().offsets;
  if (layout.part != nullptr) {
    const ops::EarlierRows& earlier = ops::earlier_rows_of(layout, options.window);
    k = earlier.join(k), v = earlier.join(v);
    options.k_offsets = earlier.offsets();
  }
  return ops::linear(ops::softmax_attention(q, k, v, options), parameters.back()->variable());
}

// The output and, where there are any, the gradients of x and all parameters.
std::vector<std::vector<float>> results_of(const SoftmaxAttention& mixer, const SoftmaxAttentionSizes* by_ops,
                                           const Tensor& x, const ops::SequenceLayout& layout, Mode mode) {
  const auto parameters = mixer.parameters();
  const RecomputableFunction layer = [&](const std::vector<Variable>& in) -> std::vector<Variable> {
    if (by_ops != nullptr) return {defined_by_ops(*by_ops, parameters, in[0], layout)};
    return {mixer.forward(in[0], layout, nullptr).product()};
  };
  if (mode == Mode::kEvaluation) {
    const NoGradScope no_grad;
    return {layer({Variable(x)})[0].value().to_vector<float>()};
  }
  const SelectiveRecomputeScope selective(mode == Mode::kSelective);
  const Variable input(x, true);
  const Variable y = mode == Mode::kLayer ? checkpoint(layer, {input})[0] : layer({input})[0];
  backward({y}, {random_normal(y.shape(), DType::kF32, 7)});
  std::vector<std::vector<float>> results = {y.value().to_vector<float>(),
                                             input.gradient().to_vector<float>()};
  for (const nn::Parameter* parameter : parameters) {
    results.push_back(parameter->variable().gradient().to_vector<float>());
    parameter->variable().gradient().fill_zero();
  }
  return results;
}

}  // namespace

TEST_CASE("softmax attention has the bits of its definition in every mode") {
  constexpr int64_t kHidden = 24, kRows = 2, kLength = 23;
  std::vector<int32_t> starts(kRows * kLength);
  for (const size_t start : {5, 6, 30}) starts[start] = 1;
  ops::SequenceLayout part = ops::SequenceLayout::cut_at(kRows, kLength, starts);
  part.part = std::make_shared<OnlyPart>();
  part.before = {0, 0};
  const ops::SequenceLayout layouts[] = {ops::SequenceLayout::uniform(kRows, kLength),
                                         ops::SequenceLayout::cut_at(kRows, kLength, starts), part};
  SoftmaxAttentionSizes plain, windowed, normalised;
  plain.hidden_size = windowed.hidden_size = normalised.hidden_size = kHidden;
  plain.num_heads = 2, plain.num_kv_heads = 2;
  windowed.num_heads = 4, windowed.num_kv_heads = 2, windowed.qkv_bias = true, windowed.window_size = 3;
  normalised.num_heads = 4, normalised.num_kv_heads = 1, normalised.qk_norm = true;
  const Tensor x = random_normal({kRows * kLength, kHidden}, DType::kF32, 1);
  for (const SoftmaxAttentionSizes& sizes : {plain, windowed, normalised}) {
    const SoftmaxAttention mixer(sizes);
    nn::allocate(mixer.parameters(), DType::kF32, Device::kCpu, true);
    for (const nn::Parameter* parameter : mixer.parameters()) nn::initialize(*parameter, 3, 0.3);
    for (const ops::SequenceLayout& layout : layouts) {
      for (const Mode mode : {Mode::kNone, Mode::kSelective, Mode::kLayer, Mode::kEvaluation}) {
        CAPTURE(sizes.num_kv_heads, &layout - layouts, static_cast<int>(mode));
        CHECK(results_of(mixer, nullptr, x, layout, mode) == results_of(mixer, &sizes, x, layout, mode));
      }
    }
  }
}
