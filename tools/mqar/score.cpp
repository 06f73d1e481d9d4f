#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/progress.h"
#include "data/token_stream.h"
#include "ops/embedding.h"
#include "tools/mqar/commands.h"
#include "train/loaded_model.h"
#include "train/window_scorer.h"

namespace sluice::mqar {
namespace {

struct Arguments {
  Task task;
  std::string checkpoint, data, name;
  int64_t rows = 16;
  std::string device = "auto", dtype = "auto";
};

// Of the queries of `rows` examples from `first` on, those whose answer has the largest logit.
int64_t count_right(const LanguageModel& model, const TokenStream& data, const Task& task, int64_t first,
                    int64_t rows) {
  std::vector<int32_t> tokens(static_cast<size_t>(rows * task.length));
  data.read(first * task.length, tokens);
  std::vector<int32_t> positions, answers;
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = tokens.begin() + row * task.length;
    const std::vector<int32_t> example(begin, begin + task.length);
    for (const int64_t query : queries(task, example)) {
      positions.push_back(static_cast<int32_t>(row * task.length + query));
      answers.push_back(example[static_cast<size_t>(query + 1)]);
    }
  }
  SLUICE_CHECK(static_cast<int64_t>(answers.size()) == rows * task.pairs, kData,
               "examples {} to {} have {} queries, {} are expected; the data were made with other options",
               first, first + rows - 1, answers.size(), rows * task.pairs);
  const Variable hidden =
      model.forward(token_tensor(model, tokens), ops::SequenceLayout::uniform(rows, task.length), nullptr);
  // Looking rows up by number is what an embedding does.
  const Variable selected = ops::embedding(token_tensor(model, positions), hidden);
  const auto logits = model.logits(selected).to(Device::kCpu).to(DType::kF32).to_vector<float>();
  const int64_t vocabulary = model.config().vocab_size;
  int64_t right = 0;
#pragma omp parallel for reduction(+ : right)
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto begin = logits.begin() + static_cast<int64_t>(i) * vocabulary;
    right += std::max_element(begin, begin + vocabulary) - begin == answers[i] ? 1 : 0;
  }
  return right;
}

int score(const Arguments& arguments) {
  const Task& task = arguments.task;
  check(task);
  const Device device = parse_device(arguments.device);
  const LoadedModel loaded =
      load_model(arguments.checkpoint, parse_compute_dtype(arguments.dtype, device), device);
  const LanguageModel& model = *loaded.model;
  SLUICE_CHECK(model.config().vocab_size >= task.vocabulary, kUsage, "the model has {} tokens, the task {}",
               model.config().vocab_size, task.vocabulary);
  const TokenStream data(arguments.data);
  const int64_t examples = data.size() / task.length;
  SLUICE_CHECK(examples >= 1, kData, "{}: {} tokens are less than one example of {}", arguments.data,
               data.size(), task.length);
  const NoGradScope no_grad;
  Progress progress("scoring", static_cast<double>(examples), "examples");
  int64_t right = 0;
  for (int64_t first = 0; first < examples; first += arguments.rows) {
    const int64_t rows = std::min(arguments.rows, examples - first);
    right += count_right(model, data, task, first, rows);
    progress.update(static_cast<double>(first + rows));
  }
  const auto queries = static_cast<double>(examples * task.pairs);
  const double accuracy = static_cast<double>(right) / queries;
  const Json line = {{"mixer", arguments.name.empty() ? model.config().model_type : arguments.name},
                     {"width", model.config().hidden_size},
                     {"layers", model.config().num_hidden_layers},
                     {"parameters", model.parameter_count()},
                     {"length", task.length},
                     {"pairs", task.pairs},
                     {"vocabulary", task.vocabulary},
                     {"examples", examples},
                     {"accuracy", accuracy},
                     {"standard_error", std::sqrt(accuracy * (1 - accuracy) / queries)},
                     {"checkpoint", loaded.directory.string()}};
  fmt::print("{}\n", dump_json(line, -1));
  return 0;
}

}  // namespace

void add_score(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand(
      "score", "print the share of queries a model answers, as a line of JSON; all tokens compete");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("--checkpoint,-c", arguments->checkpoint, "checkpoint, run or model directory")
      ->required();
  command->add_option("--data,-d", arguments->data, "examples, e.g. 'FOLDER/test_*.bin'")->required();
  command->add_option("--name", arguments->name, "what plot calls the model; default: its model_type");
  command->add_option("--rows", arguments->rows, "examples of one forward pass")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--dtype", arguments->dtype, "as evaluate's")->capture_default_str();
  add_task_options(*command, arguments->task);
  command->callback([arguments, &action] { action = [arguments] { return score(*arguments); }; });
}

}  // namespace sluice::mqar
