#include "data/train_tokenizer.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "tools/tokenize/commands.h"

namespace sluice::tokenize {
namespace {

struct Arguments {
  std::vector<std::string> inputs, extensions;
  std::string output, field = "text";
  TokenizerTraining training;
};

int run(const Arguments& arguments) {
  TextOptions options;
  options.field = arguments.field;
  options.extensions = arguments.extensions;
  TextSource source({arguments.inputs.begin(), arguments.inputs.end()}, options);
  std::string model;
  {
    Progress progress("reading", static_cast<double>(source.bytes_total()) / 1e6, "MB");
    TextPiece piece;
    model = train_tokenizer(arguments.training, [&](std::string& text) {
      progress.update(static_cast<double>(source.bytes_read()) / 1e6);
      if (!source.next(piece)) {
        progress.clear_line();
        log::info("training a {} tokenizer of {} tokens on {} documents", arguments.training.model,
                  arguments.training.vocabulary_size, source.documents());
        return false;
      }
      text.swap(piece.text);
      return true;
    });
  }
  write_file_atomically(arguments.output, model, ErrorKind::kData);
  const Tokenizer tokenizer(arguments.output);
  fmt::print("{}: {} tokens, sha256 {}\n", arguments.output, tokenizer.vocabulary_size(), tokenizer.sha256());
  return 0;
}

}  // namespace

void add_train_model(CLI::App& app, Action& chosen) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("train-model",
                         "Train a sentencepiece model. Nothing is normalised and unknown characters become "
                         "bytes, so every text comes back "
                         "as it was; a line end is a token of its own; <unk>, <s>, </s> have ids 0, 1, 2.");
  TokenizerTraining& training = arguments->training;
  command->add_option("--input", arguments->inputs, "text files, JSONL files, directories")->required();
  command->add_option("--output", arguments->output, "model file to write")->required();
  command->add_option("--vocab-size", training.vocabulary_size, "tokens of the vocabulary, bytes included")
      ->capture_default_str();
  command->add_option("--model", training.model, "bpe or unigram")->capture_default_str();
  command
      ->add_option("--character-coverage", training.character_coverage,
                   "share of the characters that get a token; the rest is written in bytes")
      ->capture_default_str();
  command->add_option("--max-lines", training.maximum_lines, "train on at most so many lines, sampled evenly")
      ->capture_default_str();
  command->add_option("--seed", training.seed, "of that sample")->capture_default_str();
  command->add_option("--threads", training.threads, "for unigram models, whose rounding depends on it")
      ->capture_default_str();
  command->add_option("--field", arguments->field, "text field of JSONL lines")->capture_default_str();
  command->add_option("--extension", arguments->extensions, "take only these from directories: .txt,.md")
      ->delimiter(',');
  command->callback([arguments, &chosen] { chosen = [arguments] { return run(*arguments); }; });
}

}  // namespace sluice::tokenize
