// evaluate: perplexity of a model by length and position.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/program.h"
#include "core/progress.h"
#include "ops/cpu_setup.h"
#include "train/bigram_baseline.h"
#include "train/evaluation_data.h"
#include "train/evaluation_report.h"
#include "train/loaded_model.h"

namespace {

using namespace sluice;

struct Arguments {
  std::string checkpoint;
  std::vector<std::string> data;
  std::vector<int64_t> lengths = {2048};
  EvaluationOptions options;
  std::string tokenizer;
  std::string bigram_source;
  std::string json, svg;
  std::string device = "auto", dtype = "auto";
  int threads = 0;
};

// What is known of the scored tokens apart from the model.
struct KnownOfTokens {
  std::optional<std::vector<int32_t>> bytes;
  std::optional<BigramBaseline> bigrams;
};

EvaluationReport describe(const Arguments& arguments, const LoadedModel& loaded, const EvaluationData& data,
                          const KnownOfTokens& known) {
  const LanguageModel& model = *loaded.model;
  const int64_t scored = data.tokens().size() - 1;
  EvaluationReport report;
  report.checkpoint = loaded.directory.string();
  report.model_type = model.config().model_type;
  report.parameters = model.parameter_count();
  report.dtype = model.dtype();
  report.device = model.device();
  report.constant_state = model.has_constant_state();
  report.data = data.description();
  report.data_tokens = data.tokens().size();
  if (known.bytes) report.data_bytes = sum_over_scored(data.tokens(), scored, *known.bytes);
  if (const auto bos = model.config().bos_token_id) {
    std::vector<int32_t> is_document(static_cast<size_t>(model.config().vocab_size), 0);
    is_document[static_cast<size_t>(*bos)] = 1;
    report.document_token = static_cast<int32_t>(*bos);
    int32_t first = 0;
    data.tokens().read(0, std::span(&first, 1));
    report.documents = (first == *bos ? 1 : 0) + sum_over_scored(data.tokens(), scored, is_document);
  }
  report.bigram_source = arguments.bigram_source;
  if (known.bigrams) report.bigram_tokens = known.bigrams->pairs() + 1;
  report.options = arguments.options;
  return report;
}

BigramBaseline read_bigrams(const std::string& source, int64_t vocabulary) {
  const TokenStream training(source);
  Progress progress("bigram baseline", static_cast<double>(training.size()), "tokens");
  return count_bigrams(training, vocabulary,
                       [&](int64_t done) { progress.update(static_cast<double>(done)); });
}

LengthResult evaluate_with_progress(const LanguageModel& model, const TokenStream& tokens, int64_t length,
                                    const EvaluationOptions& options) {
  std::unique_ptr<Progress> progress;
  return evaluate_length(model, tokens, length, options, [&](int64_t done, int64_t total, double mean_loss) {
    if (!progress) {
      progress =
          std::make_unique<Progress>(fmt::format("length {}", length), static_cast<double>(total), "tokens");
    }
    progress->update(static_cast<double>(done), fmt::format("perplexity {:.3f}", std::exp(mean_loss)));
  });
}

int evaluate(const Arguments& arguments) {
  if (arguments.threads > 0) omp_set_num_threads(arguments.threads);
  const Device device = parse_device(arguments.device);
  const LoadedModel loaded =
      load_model(arguments.checkpoint, parse_compute_dtype(arguments.dtype, device), device);
  const LanguageModel& model = *loaded.model;
  std::optional<Tokenizer> tokenizer;
  if (!arguments.tokenizer.empty()) {
    tokenizer.emplace(arguments.tokenizer);
  } else if (loaded.tokenizer) {
    tokenizer.emplace(*loaded.tokenizer);
  }
  const EvaluationData data(arguments.data, tokenizer ? &*tokenizer : nullptr, model.config());
  check_evaluation(model, data.tokens().size(), arguments.lengths, arguments.options);

  KnownOfTokens known;
  if (tokenizer) known.bytes = bytes_of_tokens(*tokenizer, model.config().vocab_size);
  if (!arguments.bigram_source.empty()) {
    known.bigrams = read_bigrams(arguments.bigram_source, model.config().vocab_size);
  }
  EvaluationReport report = describe(arguments, loaded, data, known);
  for (const int64_t length : arguments.lengths) {
    LengthResult result = evaluate_with_progress(model, data.tokens(), length, arguments.options);
    if (known.bytes) result.bytes = sum_over_scored(data.tokens(), result.tokens, *known.bytes);
    if (known.bigrams) result.bigram_loss_sum = known.bigrams->loss_sum(data.tokens(), result.tokens);
    report.results.push_back(std::move(result));
  }
  fmt::print("{}", to_text(report));
  if (!arguments.json.empty()) {
    write_file_atomically(arguments.json, dump_json(to_json(report)) + "\n", ErrorKind::kData);
  }
  if (!arguments.svg.empty()) write_file_atomically(arguments.svg, to_svg(report), ErrorKind::kData);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  sluice::ops::use_fast_cpu_kernels(argv);
  Arguments arguments;
  CLI::App app(
      "Perplexity of a model by length of context and by position. For each length L the tokens are cut "
      "into\n"
      "windows of L without overlap, each from a zero state; every position is scored. Long windows run in\n"
      "segments with the state carried, so a model of constant state needs the same memory at any length.\n"
      "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 memory, 17 a loss that is not finite.",
      "evaluate");
  app.add_option("--checkpoint,-c", arguments.checkpoint,
                 "checkpoint, run directory (its newest valid checkpoint) or Hugging Face model directory")
      ->required();
  app.add_option("--data,-d", arguments.data,
                 "token files (llm.c, Megatron, bare uint16), directories or patterns of them; or text:\n"
                 ".txt, .md, .jsonl, .ndjson, also .gz, .xz, .zst; text needs the model's tokenizer")
      ->required();
  app.add_option("--lengths,-l", arguments.lengths, "lengths of context, e.g. 2048,8192,131072")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--max-tokens", arguments.options.max_tokens,
                 "score the first so many tokens, at least one window a length; 0: all")
      ->capture_default_str();
  app.add_option("--segment", arguments.options.segment, "tokens a window advances in one forward pass")
      ->capture_default_str();
  app.add_option("--batch-tokens", arguments.options.batch_tokens,
                 "tokens of one forward pass: as many windows side by side as fit")
      ->capture_default_str();
  app.add_option("--bucket-edges", arguments.options.bucket_edges,
                 "where position buckets begin, e.g. 256,1024,4096; default 128 and its doublings")
      ->delimiter(',');
  app.add_flag("--allow-growing-state", arguments.options.allow_growing_state,
               "evaluate models whose state grows with the sequence (softmax attention without a window)\n"
               "beyond 16 x max_position_embeddings");
  app.add_option(
      "--bigram-baseline", arguments.bigram_source,
      "training token files: also print what an interpolated Kneser-Ney bigram model counted over\n"
      "them achieves on the same tokens");
  app.add_option("--tokenizer", arguments.tokenizer,
                 "sentencepiece model instead of the checkpoint's tokenizer.model");
  app.add_option("--json", arguments.json, "write all numbers to this file");
  app.add_option("--svg", arguments.svg, "write a plot of perplexity against position to this file");
  app.add_option("--device", arguments.device, "auto, cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments.dtype,
                 "type to compute in: auto (bfloat16 on a GPU, else float32), float32,\n"
                 "bfloat16 or, on the CPU, float64")
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads; 0: all cores")->capture_default_str();
  return run_program(app, argc, argv, [&] { return evaluate(arguments); });
}
