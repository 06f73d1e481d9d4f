// bench kernels: the operations of a step one by one, with the bytes and FLOPs each cannot do without.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "autograd/backward.h"
#include "ceilings.h"
#include "commands.h"
#include "config/json.h"
#include "core/file.h"
#include "core/random.h"
#include "ops/gated_activation.h"
#include "ops/gated_head_norm.h"
#include "ops/gated_linear_attention.h"
#include "ops/linear.h"
#include "ops/linear_cross_entropy.h"
#include "ops/rms_norm.h"
#include "ops/softmax_attention.h"
#include "timing.h"

namespace sluice::bench {
namespace {

struct Options {
  int64_t sequences = 4, length = 256, hidden = 256, heads = 4, vocabulary = 8192;
  int repeats = 15;
  std::string json;
};

struct Case {
  std::string name;
  std::vector<Shape> inputs;  // f32, standard normal
  std::function<Variable(const std::vector<Variable>&)> run;
  double flops = 0;  // forward
  double bytes = 0;  // inputs read and outputs written once, forward
  double input_scale = 1.0, input_shift = 0.0;
};

Tensor random_tensor(const Shape& shape, uint64_t stream) {
  const Tensor tensor = Tensor::empty(shape, DType::kF32, Device::kCpu);
  const Philox random(3, stream);
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.data<float>()[i] = static_cast<float>(random.normal(i));
  return tensor;
}

std::vector<Case> cases(const Options& o) {
  const int64_t n = o.sequences * o.length, c = o.hidden, mlp = 3 * c;
  const int64_t key = c / 2 / o.heads, value = c / o.heads;
  const double rows = static_cast<double>(n);
  const auto layout = ops::SequenceLayout::uniform(o.sequences, o.length);
  std::vector<Case> all;
  const auto count = [](std::initializer_list<int64_t> sizes) {
    double product = 1;
    for (const int64_t size : sizes) product *= static_cast<double>(size);
    return product;
  };
  all.push_back({"linear C -> 6C",
                 {{n, c}, {2 * mlp, c}},
                 [](const auto& in) { return ops::linear(in[0], in[1]); },
                 2 * count({n, c, 2 * mlp}),
                 4 * (count({n, c}) + count({c, 2 * mlp}) + count({n, 2 * mlp}))});
  all.push_back({"add + rms_norm",
                 {{n, c}, {n, c}, {c}},
                 [](const auto& in) { return ops::add_rms_norm(in[0], in[1], in[2], 1e-6).normalised; },
                 5 * count({n, c}),
                 16 * count({n, c})});
  all.push_back({"swiglu",
                 {{n, 2 * mlp}},
                 [](const auto& in) { return ops::swiglu(in[0]); },
                 10 * count({n, mlp}),
                 12 * count({n, mlp})});
  all.push_back({"gated head norm",
                 {{n, c}, {n, c}, {value}},
                 [h = o.heads](const auto& in) { return ops::gated_head_norm(in[0], in[1], in[2], h, 1e-6); },
                 12 * count({n, c}),
                 12 * count({n, c})});
  ops::GatedLinearAttentionOptions gla;
  gla.heads = gla.kv_heads = o.heads;
  all.push_back(
      {"gated linear attention",
       {{n, c / 2}, {n, c / 2}, {n, c}, {n, c / 2}},
       [gla, layout](const auto& in) {
         return ops::gated_linear_attention(in[0], in[1], in[2], in[3], Variable(), layout, gla).output;
       },
       5 * rows * count({o.heads, key, value}),
       4 * rows * count({o.heads, 3 * key + 2 * value}),
       0.1,
       -0.5});
  ops::SoftmaxAttentionOptions attention;
  attention.heads = attention.kv_heads = o.heads;
  attention.scale = 0.125;
  attention.q_offsets = attention.k_offsets = layout.offsets;
  all.push_back(
      {"softmax attention",
       {{n, c}, {n, c}, {n, c}},
       [attention](const auto& in) { return ops::softmax_attention(in[0], in[1], in[2], attention); },
       2 * rows * count({o.length, c}),
       16 * count({n, c})});
  std::vector<int32_t> labels(static_cast<size_t>(n));
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int32_t>(i * 7919 % o.vocabulary);
  const Tensor label_tensor = Tensor::from<int32_t>({n}, labels);
  // Its forward computes the gradients too: three products of N x C x vocabulary.
  all.push_back(
      {"linear + cross-entropy",
       {{n, c}, {o.vocabulary, c}},
       [label_tensor](const auto& in) { return ops::linear_cross_entropy(in[0], in[1], label_tensor); },
       2 * count({n, c, o.vocabulary}),
       4 * (count({n, c}) + count({o.vocabulary, c}))});
  return all;
}

struct Row {
  Timing forward, both;
};

Row measure(const Case& item, int repeats) {
  std::vector<Tensor> values;
  for (size_t i = 0; i < item.inputs.size(); ++i) {
    const Tensor tensor = random_tensor(item.inputs[i], i);
    for (int64_t j = 0; j < tensor.numel(); ++j) {
      tensor.data<float>()[j] =
          static_cast<float>(tensor.data<float>()[j] * item.input_scale + item.input_shift);
    }
    values.push_back(tensor);
  }
  const auto variables = [&](bool trained) {
    std::vector<Variable> result;
    for (const Tensor& value : values) result.emplace_back(value, trained);
    return result;
  };
  const auto plain = variables(false);
  Row row;
  row.forward = time_repeated([&] { item.run(plain); }, 3, repeats);
  Tensor cotangent;
  row.both = time_repeated(
      [&] {
        const Variable y = item.run(variables(true));
        if (!cotangent.defined()) cotangent = random_tensor(y.shape(), 99);
        backward({y}, {cotangent});
      },
      3, repeats);
  return row;
}

int run(const Options& o) {
  const Ceilings ceilings = measure_ceilings(Device::kCpu);
  fmt::print(
      "{} x {} tokens, width {}, {} heads, float32; ceilings {:.0f} GFLOP/s (matrix product), {:.1f} GB/s "
      "(copy)\n",
      o.sequences, o.length, o.hidden, o.heads, ceilings.flops_per_second / 1e9,
      ceilings.bytes_per_second / 1e9);
  fmt::print("{:<24} {:>12} {:>12} {:>10} {:>8} {:>8}\n", "forward", "ms", "+ backward", "GFLOP/s", "GB/s",
             "ceiling");
  Json results = Json::array();
  for (const Case& item : cases(o)) {
    const Row row = measure(item, o.repeats);
    const double flops = item.flops / row.forward.median, bytes = item.bytes / row.forward.median;
    const double share = std::max(flops / ceilings.flops_per_second, bytes / ceilings.bytes_per_second);
    fmt::print("{:<24} {:>12.3f} {:>12.3f} {:>10.1f} {:>8.1f} {:>7.0f}%\n", item.name,
               1e3 * row.forward.median, 1e3 * row.both.median, flops / 1e9, bytes / 1e9, 100 * share);
    results.push_back({{"name", item.name},
                       {"forward_seconds", row.forward.median},
                       {"forward_backward_seconds", row.both.median},
                       {"flops", item.flops},
                       {"bytes", item.bytes},
                       {"share_of_ceiling", share}});
  }
  if (!o.json.empty()) write_file_atomically(o.json, dump_json(results) + "\n", ErrorKind::kUsage);
  return 0;
}

}  // namespace

Command add_kernels_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("kernels", "time the operations of a step one by one");
  command->add_option("--sequences", options->sequences)->capture_default_str();
  command->add_option("--length", options->length)->capture_default_str();
  command->add_option("--hidden", options->hidden, "width C")->capture_default_str();
  command->add_option("--heads", options->heads)->capture_default_str();
  command->add_option("--vocabulary", options->vocabulary)->capture_default_str();
  command->add_option("--repeats", options->repeats, "timed calls each")->capture_default_str();
  command->add_option("--json", options->json, "also write the figures to this file");
  return [options] { return run(*options); };
}

}  // namespace sluice::bench
