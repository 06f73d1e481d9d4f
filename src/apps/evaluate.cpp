// evaluate: perplexity of a model by length and position, or its scores in tasks.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/logits_file.h"
#include "core/file.h"
#include "core/log.h"
#include "core/program.h"
#include "core/progress.h"
#include "ops/cpu_setup.h"
#include "train/bigram_baseline.h"
#include "train/evaluation_comparison.h"
#include "train/evaluation_data.h"
#include "train/evaluation_report.h"
#include "train/loaded_model.h"
#include "train/task_report.h"

namespace {

using namespace sluice;

struct Arguments {
  std::string checkpoint;
  std::vector<std::string> data;
  std::vector<int64_t> lengths = {2048};
  EvaluationOptions options;
  std::string tokenizer;
  std::string bigram_source;
  std::vector<std::string> tasks, task_types;
  std::string task_details;
  std::string json, svg;
  std::vector<std::filesystem::path> compared;
  std::string logits;
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

LoadedModel load(const Arguments& arguments) {
  const Device device = parse_device(arguments.device);
  return load_model(arguments.checkpoint, parse_compute_dtype(arguments.dtype, device), device);
}

std::optional<Tokenizer> load_tokenizer(const Arguments& arguments, const LoadedModel& loaded) {
  if (!arguments.tokenizer.empty()) return Tokenizer(arguments.tokenizer);
  if (loaded.tokenizer) return Tokenizer(*loaded.tokenizer);
  return std::nullopt;
}

void write_results(const Arguments& arguments, const Json& json) {
  if (arguments.json.empty()) return;
  write_file_atomically(arguments.json, dump_json(json) + "\n", ErrorKind::kData);
}

int evaluate_perplexity(const Arguments& arguments) {
  const LoadedModel loaded = load(arguments);
  const LanguageModel& model = *loaded.model;
  const std::optional<Tokenizer> tokenizer = load_tokenizer(arguments, loaded);
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
  write_results(arguments, to_json(report));
  if (!arguments.svg.empty()) write_file_atomically(arguments.svg, to_svg(report), ErrorKind::kData);
  return 0;
}

int dump_logits(const Arguments& arguments) {
  SLUICE_CHECK(arguments.lengths.size() == 1 && arguments.lengths[0] >= 1 && arguments.options.segment >= 1,
               kUsage, "--logits takes one --lengths, of at least 1 token, and a --segment of at least 1");
  const LoadedModel loaded = load(arguments);
  const std::optional<Tokenizer> tokenizer = load_tokenizer(arguments, loaded);
  const EvaluationData data(arguments.data, tokenizer ? &*tokenizer : nullptr, loaded.model->config());
  const LogitsOptions options{arguments.lengths[0], arguments.options.max_tokens, arguments.options.segment};
  const int64_t windows = write_logits(arguments.logits, *loaded.model, data.tokens(), options);
  fmt::print("{}: logits of {} windows, {} tokens each, {} numbers a token\n", arguments.logits, windows,
             options.length, loaded.model->config().vocab_size);
  return 0;
}

std::vector<TaskFile> read_task_files(const Arguments& arguments) {
  const auto& types = arguments.task_types;
  SLUICE_CHECK(types.size() <= 1 || types.size() == arguments.tasks.size(), kUsage,
               "{} task types for {} task files: give one for all, or one each", types.size(),
               arguments.tasks.size());
  std::vector<TaskFile> files;
  for (size_t i = 0; i < arguments.tasks.size(); ++i) {
    std::optional<TaskType> type;
    if (!types.empty()) type = parse_task_type(types[types.size() == 1 ? 0 : i]);
    files.push_back(read_task_file(arguments.tasks[i], type));
  }
  return files;
}

std::vector<TaskResult> evaluate_with_progress(const TaskFile& file, const TaskEncoder& encoder,
                                               const TaskScorer& scorer) {
  std::unique_ptr<Progress> progress;
  return evaluate_tasks(file, encoder, scorer, [&](int64_t done, int64_t total) {
    if (!progress) {
      progress =
          std::make_unique<Progress>(file.path.filename().string(), static_cast<double>(total), "tokens");
    }
    progress->update(static_cast<double>(done));
  });
}

void warn_of_length(const LanguageModel& model, const TaskResult& result) {
  const int64_t trained = model.config().max_position_embeddings;
  if (model.has_constant_state() || result.longest <= trained) return;
  log::warning("{}: contexts of up to {} tokens; the model's max_position_embeddings is {}", result.file,
               result.longest, trained);
}

int evaluate_task_files(const Arguments& arguments) {
  const std::vector<TaskFile> files = read_task_files(arguments);
  const LoadedModel loaded = load(arguments);
  const LanguageModel& model = *loaded.model;
  const std::optional<Tokenizer> tokenizer = load_tokenizer(arguments, loaded);
  SLUICE_CHECK(tokenizer, kUsage,
               "tasks are text, and there is no tokenizer.model beside the weights to read it with; give one "
               "with --tokenizer");
  const TaskEncoder encoder(*tokenizer, model.config());
  const ModelScorer scorer(model, arguments.options.batch_tokens, tokenizer->vocabulary_size());
  TaskReport report;
  report.checkpoint = loaded.directory.string();
  report.model_type = model.config().model_type;
  report.parameters = model.parameter_count();
  report.dtype = model.dtype();
  report.device = model.device();
  report.tokenizer = tokenizer->path().string();
  report.batch_tokens = arguments.options.batch_tokens;
  for (const TaskFile& file : files) {
    for (TaskResult& result : evaluate_with_progress(file, encoder, scorer)) {
      warn_of_length(model, result);
      report.results.push_back(std::move(result));
    }
  }
  fmt::print("{}", to_text(report));
  write_results(arguments, to_json(report));
  if (!arguments.task_details.empty()) {
    write_file_atomically(arguments.task_details, details_jsonl(report), ErrorKind::kData);
  }
  return 0;
}

int evaluate(const Arguments& arguments) {
  if (!arguments.compared.empty()) {
    SLUICE_CHECK(!arguments.svg.empty(), kUsage, "--compare draws into --svg, which is missing");
    write_file_atomically(arguments.svg, compare_evaluations(arguments.compared), ErrorKind::kData);
    return 0;
  }
  SLUICE_CHECK(!arguments.checkpoint.empty(), kUsage, "--checkpoint is required; see evaluate --help");
  SLUICE_CHECK(!arguments.data.empty() || !arguments.tasks.empty(), kUsage,
               "--data is required, or --tasks; see evaluate --help");
  if (arguments.threads > 0) omp_set_num_threads(arguments.threads);
  if (!arguments.logits.empty()) return dump_logits(arguments);
  return arguments.tasks.empty() ? evaluate_perplexity(arguments) : evaluate_task_files(arguments);
}

// Options that go with --tasks, and what of the others makes no sense beside it.
void add_task_options(CLI::App& app, Arguments& arguments) {
  CLI::Option* tasks =
      app.add_option("--tasks", arguments.tasks,
                     "score the items of these JSONL files, FILE[,FILE...], instead of the perplexity of\n"
                     "--data: multiple_choice, last_word, contains, needle; docs/tasks.md has the format")
          ->delimiter(',');
  app.add_option("--task-type", arguments.task_types,
                 "type of the items that name none; one for all files, or one each")
      ->delimiter(',')
      ->needs(tasks);
  app.add_option("--task-details", arguments.task_details,
                 "write what each item came to, a line of JSON each, to this file")
      ->needs(tasks);
  for (const char* other : {"--data", "--lengths", "--max-tokens", "--segment", "--bucket-edges",
                            "--allow-growing-state", "--bigram-baseline", "--svg", "--logits"}) {
    tasks->excludes(app.get_option(other));
  }
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
      "With --tasks: scores in tasks instead, as lm-evaluation-harness computes them.\n"
      "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 memory, 17 a loss that is not finite.",
      "evaluate");
  app.add_option("--checkpoint,-c", arguments.checkpoint,
                 "checkpoint, run directory (its newest valid checkpoint) or Hugging Face model directory");
  app.add_option("--data,-d", arguments.data,
                 "token files (llm.c, Megatron, bare uint16), directories or patterns of them; or text:\n"
                 ".txt, .md, .jsonl, .ndjson, also .gz, .xz, .zst; text needs the model's tokenizer");
  app.add_option("--lengths,-l", arguments.lengths, "lengths of context, e.g. 2048,8192,131072")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--max-tokens", arguments.options.max_tokens,
                 "score the first so many tokens, at least one window a length; 0: all")
      ->capture_default_str();
  app.add_option("--segment", arguments.options.segment, "tokens a window advances in one forward pass")
      ->capture_default_str();
  app.add_option("--batch-tokens", arguments.options.batch_tokens,
                 "tokens of one forward pass: as many windows, or items of tasks, side by side as fit")
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
  CLI::Option* logits = app.add_option(
      "--logits", arguments.logits,
      "instead of scoring, write the logits after every token of every whole window of --data\n"
      "to this NumPy file: [windows, length, vocabulary]; see --max-tokens");
  for (const char* other : {"--bigram-baseline", "--json", "--svg"}) logits->excludes(app.get_option(other));
  app.add_option("--device", arguments.device, "auto, cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments.dtype,
                 "type to compute in: auto (bfloat16 on a GPU, else float32), float32,\n"
                 "bfloat16 or, on the CPU, float64")
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads; 0: all cores")->capture_default_str();
  add_task_options(app, arguments);
  CLI::Option* compare =
      app.add_option("--compare", arguments.compared,
                     "instead of evaluating, draw these evaluations of several models, FILE[,FILE...] as\n"
                     "--json wrote them, over each other into --svg, at their longest common length")
          ->delimiter(',');
  for (const char* other : {"--checkpoint", "--data", "--tasks", "--json", "--logits"})
    compare->excludes(app.get_option(other));
  return run_program(app, argc, argv, [&] { return evaluate(arguments); });
}
