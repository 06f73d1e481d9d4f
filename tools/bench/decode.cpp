// bench decode: one token for each of many texts, as generation runs it, without choosing the tokens.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "ceilings.h"
#include "commands.h"
#include "core/file.h"
#include "core/progress.h"
#include "model/model_weights.h"
#include "model_run.h"
#include "tensor/device.h"
#include "timing.h"
#include "train/decoder.h"
#include "train/loaded_model.h"

namespace sluice::bench {
namespace {

struct Options : ModelRun {
  Options() { steps = 30, warmup = 5; }
  std::vector<int64_t> texts = {1, 64};
  int64_t prompt = 16;
};

std::unique_ptr<LanguageModel> random_model(const Options& options) {
  auto model = std::make_unique<LanguageModel>(prepare(options));
  const Device device = parse_device(options.device);
  nn::allocate(model->parameters(), parse_compute_dtype(options.dtype, device), device, false);
  model->initialize_weights(1);
  return model;
}

// What a step reads of the weights: all but the embedding, of which it reads a row a text.
int64_t weight_bytes(const LanguageModel& model) {
  int64_t bytes = 0;
  for (const nn::Parameter* parameter : model.parameters()) bytes += parameter->variable().value().bytes();
  const ModelConfig& config = model.config();
  if (!config.tie_word_embeddings) bytes -= config.vocab_size * config.hidden_size * size_of(model.dtype());
  return bytes;
}

int run(const Options& options) {
  const auto model = random_model(options);
  const Device device = model->device();
  const Ceilings ceilings = measure_ceilings(device);
  const int64_t weights = weight_bytes(*model);
  fmt::print("{}: {} parameters, {} in {}; weights {}, a copy moves {:.0f} GB/s\n", options.model,
             model->parameter_count(), name_of(device), name_of(model->dtype()),
             format_bytes(static_cast<double>(weights)), ceilings.bytes_per_second / 1e9);
  fmt::print("{:>6}  {:>10}  {:>10}  {:>12}  {:>8}  {:>12}\n", "texts", "ms a step", "tokens/s", "states",
             "GB/s", "of the copy");
  Json results = Json::array();
  for (const int64_t texts : options.texts) {
    Decoder decoder(*model, texts);
    const std::vector<int32_t> prompt(static_cast<size_t>(texts * options.prompt), 1),
        token(static_cast<size_t>(texts), 2);
    decoder.advance_on_device(prompt, options.prompt);
    const Timing timing =
        time_repeated([&] { decoder.advance_on_device(token, 1); }, options.warmup, options.steps, device);
    // States are read and written.
    const double bytes = static_cast<double>(weights + 2 * decoder.state_bytes()) / timing.median;
    const double tokens = static_cast<double>(texts) / timing.median;
    fmt::print("{:>6}  {:>10.3f}  {:>10.0f}  {:>12}  {:>8.0f}  {:>11.0f}%\n", texts, 1e3 * timing.median,
               tokens, format_bytes(static_cast<double>(decoder.state_bytes())), bytes / 1e9,
               100 * bytes / ceilings.bytes_per_second);
    results.push_back(Json{{"texts", texts},
                           {"seconds_per_step", timing.median},
                           {"tokens_per_second", tokens},
                           {"state_bytes", decoder.state_bytes()},
                           {"bytes_per_second", bytes}});
  }
  if (!options.json.empty()) {
    const Json json = {{"model", options.model},
                       {"device", name_of(device)},
                       {"dtype", name_of(model->dtype())},
                       {"weight_bytes", weights},
                       {"ceiling_bytes_per_second", ceilings.bytes_per_second},
                       {"results", results}};
    write_file_atomically(options.json, dump_json(json) + "\n", ErrorKind::kUsage);
  }
  return 0;
}

}  // namespace

Command add_decode_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "decode", "time steps of generation, counted over the weights read and the states read and written");
  add_model_option(*command, *options);
  command->add_option("--texts", options->texts, "texts side by side, one or more numbers")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--prompt", options->prompt, "tokens of each text before the steps")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_step_options(*command, *options);
  add_json_option(*command, *options);
  return [options] { return run(*options); };
}

}  // namespace sluice::bench
