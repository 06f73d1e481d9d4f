// bench kernels: the operations of a step one by one, with the bytes and FLOPs each cannot do without, and
// how far their results are from the CPU's in double.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "autograd/backward.h"
#include "ceilings.h"
#include "commands.h"
#include "config/json.h"
#include "core/file.h"
#include "core/random.h"
#include "kernel_cases.h"
#include "tensor/launch.h"
#include "timing.h"
#include "train/loaded_model.h"

namespace sluice::bench {
namespace {

struct Options {
  KernelSizes sizes;
  int repeats = 15;
  std::string device = "auto", dtype = "auto", only, json;
};

Tensor random_tensor(const KernelInput& input, uint64_t stream) {
  const Tensor tensor = Tensor::empty(input.shape, DType::kF32, Device::kCpu);
  const Philox random(3, stream);
  float* values = tensor.data<float>();
#pragma omp parallel for
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] = static_cast<float>(random.normal(static_cast<uint64_t>(i)) * input.scale + input.shift);
  }
  return tensor;
}

// Inputs rounded to `seen_in`, then held in `dtype`.
std::vector<Tensor> inputs_of(const KernelCase& item, DType seen_in, DType dtype, Device device) {
  std::vector<Tensor> values;
  for (size_t i = 0; i < item.inputs.size(); ++i) {
    const KernelInput& input = item.inputs[i];
    const Tensor rounded = random_tensor(input, i).to(input.is_exact ? accumulate_dtype(seen_in) : seen_in);
    values.push_back(rounded.to(DType::kF32).to(input.is_exact ? accumulate_dtype(dtype) : dtype).to(device));
  }
  return values;
}

std::vector<Variable> leaves(const KernelCase& item, const std::vector<Tensor>& values) {
  std::vector<Variable> result;
  for (size_t i = 0; i < values.size(); ++i) {
    const DType gradient = accumulate_dtype(values[i].dtype());
    result.push_back(
        item.inputs[i].is_weight
            ? Variable::parameter(values[i], Tensor::zeros(values[i].shape(), gradient, values[i].device()))
            : Variable(values[i], true));
  }
  return result;
}

Tensor cotangent_of(const Variable& y, DType seen_in) {
  return random_tensor({y.shape()}, 99).to(seen_in).to(DType::kF32).to(y.dtype()).to(y.device());
}

struct Times {
  Timing forward, both;
};

Times measure(const KernelCase& item, DType dtype, Device device, int repeats) {
  const auto values = inputs_of(item, dtype, dtype, device);
  std::vector<Variable> plain(values.begin(), values.end());
  Times times;
  times.forward = time_repeated([&] { item.run(plain); }, 3, repeats, device);
  // Weights' gradients add up from call to call, as they do in training; the others are made anew.
  const auto trained = leaves(item, values);
  Tensor cotangent;
  const auto both = [&] {
    std::vector<Variable> inputs;
    for (size_t i = 0; i < trained.size(); ++i) {
      inputs.push_back(item.inputs[i].is_weight ? trained[i] : Variable(values[i], true));
    }
    const Variable y = item.run(inputs);
    if (!cotangent.defined()) cotangent = cotangent_of(y, dtype);
    backward({y}, {cotangent});
  };
  times.both = time_repeated(both, 3, repeats, device);
  return times;
}

std::vector<std::vector<double>> results_of(const KernelCase& item, DType seen_in, DType dtype,
                                            Device device) {
  const auto inputs = leaves(item, inputs_of(item, seen_in, dtype, device));
  const Variable y = item.run(inputs);
  backward({y}, {cotangent_of(y, seen_in)});
  const auto doubles = [](const Tensor& tensor) {
    return tensor.to(Device::kCpu).to(DType::kF64).to_vector<double>();
  };
  std::vector<std::vector<double>> results = {doubles(y.value())};
  for (const Variable& input : inputs) results.push_back(doubles(input.gradient()));
  return results;
}

double relative_rms(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0, reference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    reference += expected[i] * expected[i];
  }
  return std::sqrt(difference / reference);
}

struct Errors {
  double output = 0, worst_gradient = 0;  // relative RMS
};

// On few tokens: the CPU's double is slow.
Errors errors_of(size_t index, const KernelSizes& sizes, DType dtype, Device device) {
  KernelSizes few = sizes;
  few.sequences = 2;
  few.length = std::min<int64_t>(sizes.length, 100);
  const auto actual = results_of(kernel_cases(few, dtype, device)[index], dtype, dtype, device);
  const auto expected =
      results_of(kernel_cases(few, DType::kF64, Device::kCpu)[index], dtype, DType::kF64, Device::kCpu);
  Errors errors{relative_rms(actual[0], expected[0]), 0};
  for (size_t i = 1; i < actual.size(); ++i) {
    errors.worst_gradient = std::max(errors.worst_gradient, relative_rms(actual[i], expected[i]));
  }
  return errors;
}

int run(const Options& o) {
  const Device device = parse_device(o.device);
  const DType dtype = parse_compute_dtype(o.dtype, device);
  const Ceilings ceilings = measure_ceilings(device);
  const KernelSizes& s = o.sizes;
  fmt::print(
      "{} x {} tokens, width {}, {} heads, {} on {}; ceilings {:.0f} GFLOP/s (matrix product), {:.1f} GB/s "
      "(copy)\n",
      s.sequences, s.length, s.hidden, s.heads, name_of(dtype), name_of(device),
      ceilings.flops_per_second / 1e9, ceilings.bytes_per_second / 1e9);
  fmt::print("{:<24} {:>10} {:>10} {:>9} {:>8} {:>8} {:>10} {:>10}\n", "forward", "ms", "+ backward",
             "GFLOP/s", "GB/s", "ceiling", "error", "gradients");
  Json results = Json::array();
  const auto cases = kernel_cases(s, dtype, device);
  for (size_t i = 0; i < cases.size(); ++i) {
    const KernelCase& item = cases[i];
    if (item.name.find(o.only) == std::string::npos) continue;
    const Times times = measure(item, dtype, device, o.repeats);
    const Errors errors = errors_of(i, s, dtype, device);
    const double bytes_needed = item.elements * static_cast<double>(size_of(dtype));
    const double flops = item.flops / times.forward.median, bytes = bytes_needed / times.forward.median;
    const double share = std::max(flops / ceilings.flops_per_second, bytes / ceilings.bytes_per_second);
    fmt::print("{:<24} {:>10.3f} {:>10.3f} {:>9.0f} {:>8.1f} {:>7.0f}% {:>10.1e} {:>10.1e}\n", item.name,
               1e3 * times.forward.median, 1e3 * times.both.median, flops / 1e9, bytes / 1e9, 100 * share,
               errors.output, errors.worst_gradient);
    results.push_back({{"name", item.name},
                       {"forward_seconds", times.forward.median},
                       {"forward_backward_seconds", times.both.median},
                       {"flops", item.flops},
                       {"bytes", bytes_needed},
                       {"share_of_ceiling", share},
                       {"error", errors.output},
                       {"worst_gradient_error", errors.worst_gradient}});
  }
  if (!o.json.empty()) write_file_atomically(o.json, dump_json(results) + "\n", ErrorKind::kUsage);
  return 0;
}

}  // namespace

Command add_kernels_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("kernels", "time the operations of a step one by one");
  command->add_option("--sequences", options->sizes.sequences)->capture_default_str();
  command->add_option("--length", options->sizes.length, "tokens of a sequence")->capture_default_str();
  command->add_option("--hidden", options->sizes.hidden, "width C")->capture_default_str();
  command->add_option("--heads", options->sizes.heads, "of linear attention")->capture_default_str();
  command->add_option("--head-size", options->sizes.head_size, "of softmax attention")->capture_default_str();
  command->add_option("--vocabulary", options->sizes.vocabulary)->capture_default_str();
  command->add_option("--device", options->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--dtype", options->dtype, "auto, float32, bfloat16 (GPU) or float64 (CPU)")
      ->capture_default_str();
  command->add_option("--only", options->only, "only operations whose name holds this");
  command->add_option("--repeats", options->repeats, "timed calls each")->capture_default_str();
  command->add_option("--json", options->json, "also write the figures to this file");
  return [options] { return run(*options); };
}

}  // namespace sluice::bench
