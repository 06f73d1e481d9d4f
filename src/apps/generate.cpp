// generate: text from a model, printed while it is made.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "core/file.h"
#include "core/program.h"
#include "core/progress.h"
#include "data/tokenizer.h"
#include "ops/cpu_setup.h"
#include "train/loaded_model.h"
#include "train/text_sampler.h"

namespace {

using namespace sluice;

struct Arguments {
  std::string checkpoint;
  std::string prompt, prompt_file;
  std::vector<int32_t> prompt_ids;
  std::string tokenizer;
  SamplingOptions sampling;
  int64_t texts = 1;
  bool greedy = false;
  bool stop_at_eos = true;
  std::string device = "auto", dtype = "auto";
  int threads = 0;
};

std::string read_prompt(const Arguments& arguments) {
  if (arguments.prompt_file.empty()) return arguments.prompt;
  if (arguments.prompt_file != "-") return read_text_file(arguments.prompt_file, ErrorKind::kData);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

std::optional<Tokenizer> open_tokenizer(const Arguments& arguments, const LoadedModel& loaded) {
  if (!arguments.tokenizer.empty()) return Tokenizer(arguments.tokenizer);
  if (loaded.tokenizer) return Tokenizer(*loaded.tokenizer);
  return std::nullopt;
}

// Text as soon as it is readable, or, without a tokenizer, ids separated by spaces.
class Output {
 public:
  explicit Output(const Tokenizer* tokenizer) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  }

  void push(int32_t token) {
    print(decoder_ ? decoder_->push(token) : fmt::format("{}{}", first_ ? "" : " ", token));
    first_ = false;
  }
  void finish() { print((decoder_ ? decoder_->finish() : "") + "\n"); }

 private:
  static void print(const std::string& text) {
    const bool whole =
        std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    SLUICE_CHECK(whole, kData, "standard output takes no more text");
  }

  std::optional<StreamDecoder> decoder_;
  bool first_ = true;
};

void print_speed(const LanguageModel& model, const SamplingStatistics& statistics) {
  const auto speed = [](int64_t tokens, double seconds) {
    return format_count(seconds > 0 ? static_cast<double>(tokens) / seconds : 0);
  };
  fmt::print(stderr, "prompt: {} tokens, {} tokens/s; text: {} tokens, {} tokens/s{}; state: {}, {}\n",
             statistics.prompt_tokens, speed(statistics.prompt_tokens, statistics.prefill_seconds),
             statistics.tokens, speed(statistics.tokens, statistics.decode_seconds),
             statistics.stopped ? ", ended by eos" : "",
             format_bytes(static_cast<double>(statistics.state_bytes)),
             model.has_constant_state() ? "constant" : "growing with the text");
}

SamplingStatistics print_one(const TextSampler& sampler, const std::vector<int32_t>& prompt,
                             const std::optional<Tokenizer>& tokenizer) {
  Output output(tokenizer ? &*tokenizer : nullptr);
  const auto statistics = sampler.generate(prompt, [&](int32_t token) { output.push(token); });
  output.finish();
  return statistics;
}

// Texts grow side by side, so they are printed when all are done, each behind a line with its number.
SamplingStatistics print_many(const TextSampler& sampler, const std::vector<int32_t>& prompt, int64_t count,
                              const std::optional<Tokenizer>& tokenizer) {
  std::vector<std::vector<int32_t>> texts(static_cast<size_t>(count));
  const auto statistics = sampler.generate_many(
      prompt, count, [&](int64_t text, int32_t token) { texts[static_cast<size_t>(text)].push_back(token); });
  for (size_t i = 0; i < texts.size(); ++i) {
    fmt::print("--- {} ---\n", i + 1);
    Output output(tokenizer ? &*tokenizer : nullptr);
    for (const int32_t token : texts[i]) output.push(token);
    output.finish();
  }
  return statistics;
}

int generate(Arguments arguments) {
  if (arguments.threads > 0) omp_set_num_threads(arguments.threads);
  if (arguments.greedy) arguments.sampling.choice.temperature = 0;
  const Device device = parse_device(arguments.device);
  const LoadedModel loaded =
      load_model(arguments.checkpoint, parse_compute_dtype(arguments.dtype, device), device);
  const LanguageModel& model = *loaded.model;
  const std::optional<Tokenizer> tokenizer = open_tokenizer(arguments, loaded);
  if (arguments.stop_at_eos && model.config().eos_token_id) {
    arguments.sampling.stop_token = static_cast<int32_t>(*model.config().eos_token_id);
  }
  std::vector<int32_t> prompt = arguments.prompt_ids;
  if (prompt.empty()) {
    const std::string text = read_prompt(arguments);
    SLUICE_CHECK(
        tokenizer || text.empty(), kUsage,
        "{}: no tokenizer.model beside the weights to read the prompt with; give one with --tokenizer, or "
        "the prompt's ids with --prompt-tokens",
        loaded.directory.string());
    if (tokenizer) prompt = prompt_tokens(model, *tokenizer, text);
  }
  const TextSampler sampler(model, arguments.sampling);
  const SamplingStatistics statistics = arguments.texts == 1
                                            ? print_one(sampler, prompt, tokenizer)
                                            : print_many(sampler, prompt, arguments.texts, tokenizer);
  print_speed(model, statistics);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  sluice::ops::use_fast_cpu_kernels(argv);
  Arguments arguments;
  CLI::App app(
      "Continues a prompt with text from a model, printed while it is made; the prompt is not repeated. The\n"
      "prompt runs in large pieces, the text token by token on the carried state: for a model of constant\n"
      "state, time and memory of a token do not depend on how many came before. Speed goes to standard "
      "error.\n"
      "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 memory, 17 logits that are not finite.",
      "generate");
  app.add_option("--checkpoint,-c", arguments.checkpoint,
                 "checkpoint, run directory (its newest valid checkpoint) or Hugging Face model directory")
      ->required();
  auto* text = app.add_option("--prompt,-p", arguments.prompt,
                              "text to continue, after bos_token_id; default: nothing but that token");
  auto* file = app.add_option("--prompt-file", arguments.prompt_file,
                              "read the prompt from this file; -: standard input");
  auto* ids = app.add_option("--prompt-tokens", arguments.prompt_ids,
                             "token ids to continue as they are, e.g. 1,45,7")
                  ->delimiter(',');
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  app.add_option("--tokens,-n", arguments.sampling.max_tokens, "most tokens to generate")
      ->capture_default_str();
  app.add_option("--texts", arguments.texts,
                 "this many continuations side by side, printed when all are done")
      ->capture_default_str();
  app.add_option("--temperature,-t", arguments.sampling.choice.temperature,
                 "logits are divided by it; 0: always the most probable token")
      ->capture_default_str();
  app.add_option("--top-k", arguments.sampling.choice.top_k, "draw among the k most probable tokens; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", arguments.sampling.choice.top_p,
                 "draw among the fewest tokens that together have this probability")
      ->capture_default_str();
  app.add_flag("--greedy", arguments.greedy, "the same as --temperature 0");
  app.add_option("--seed,-s", arguments.sampling.seed, "same seed, same text")->capture_default_str();
  app.add_flag("--stop-at-eos,!--no-stop", arguments.stop_at_eos,
               "end at the model's eos_token_id (default), or go on");
  app.add_option("--tokenizer", arguments.tokenizer,
                 "sentencepiece model instead of the checkpoint's tokenizer.model");
  app.add_option("--device", arguments.device, "auto, cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments.dtype,
                 "type to compute in: auto (bfloat16 on a GPU, else float32), float32,\n"
                 "bfloat16 or, on the CPU, float64")
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads; 0: all cores")->capture_default_str();
  return run_program(app, argc, argv, [&] { return generate(arguments); });
}
