#include "data/train_tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>

#include "core/environment.h"
#include "core/error.h"
#include "data/utf8.h"

namespace sluice {
namespace {

// sentencepiece drops longer sentences without a word.
constexpr size_t kMaximumLine = 4096;

// Lines of the text without their ends, cut at spaces where they are too long. An exception inside
// sentencepiece would skip its own clean-up, so errors wait here until it has returned.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::function<bool(std::string&)>& next_text) : next_text_(next_text) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    try {
      do {
        while (at_ >= text_.size()) {
          at_ = 0;
          if (!next_text_(text_)) {
            done_ = true;
            return;
          }
        }
        take_line();
      } while (line_.empty());
    } catch (...) {
      failure_ = std::current_exception();
      done_ = true;
    }
  }

  bool any() const { return any_; }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void take_line() {
    const std::string_view rest = std::string_view(text_).substr(at_);
    const size_t line_end = std::min(rest.find('\n'), rest.size());
    size_t length = line_end;
    if (length > kMaximumLine) {
      const size_t space = rest.rfind(' ', kMaximumLine);
      length = space != std::string_view::npos && space > 0
                   ? space
                   : kMaximumLine - utf8::incomplete_tail(rest.substr(0, kMaximumLine));
    }
    line_ = rest.substr(0, length);
    at_ += length + (length == line_end ? 1 : 0);
    any_ |= !line_.empty();
  }

  const std::function<bool(std::string&)>& next_text_;
  std::string text_, line_;
  size_t at_ = 0;
  bool done_ = false, any_ = false;
  std::exception_ptr failure_;
};

// sentencepiece puts its own source line and the failed condition in brackets in front.
std::string_view without_location(std::string_view message) {
  const size_t end =
      message.starts_with("./") || message.starts_with("src/") ? message.find("] ") : std::string_view::npos;
  return end == std::string_view::npos ? message : message.substr(end + 2);
}

void check(const TokenizerTraining& training) {
  SLUICE_CHECK(training.model == "bpe" || training.model == "unigram", kUsage,
               "tokenizer model \"{}\" is unknown; choose bpe or unigram", training.model);
  SLUICE_CHECK(training.vocabulary_size >= 300 && training.vocabulary_size <= 1'000'000, kUsage,
               "vocabulary size {} must be in 300 to 1000000; 260 ids go to bytes and control tokens",
               training.vocabulary_size);
  SLUICE_CHECK(training.character_coverage > 0.9 && training.character_coverage <= 1, kUsage,
               "character coverage {} must be above 0.9 and at most 1", training.character_coverage);
  SLUICE_CHECK(training.maximum_lines >= 1 && training.threads >= 1, kUsage,
               "lines ({}) and threads ({}) must be at least 1", training.maximum_lines, training.threads);
}

}  // namespace

std::string train_tokenizer(const TokenizerTraining& training,
                            const std::function<bool(std::string& text)>& next_text) {
  check(training);
  const bool loud = environment::text("SLUICE_LOG_LEVEL", "info") == "debug";
  sentencepiece::SetRandomGeneratorSeed(training.seed);
  LineIterator lines(next_text);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {
          {"model_type", training.model},
          {"vocab_size", std::to_string(training.vocabulary_size)},
          {"character_coverage", fmt::format("{}", training.character_coverage)},
          {"input_sentence_size", std::to_string(training.maximum_lines)},
          {"shuffle_input_sentence", "true"},
          {"max_sentence_length", std::to_string(kMaximumLine + 4)},
          {"num_threads", std::to_string(training.threads)},
          {"byte_fallback", "true"},
          {"normalization_rule_name", "identity"},
          {"remove_extra_whitespaces", "false"},
          {"add_dummy_prefix", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"user_defined_symbols", "\n"},
          {"minloglevel", loud ? "0" : "3"},
      },
      &lines, &model);
  lines.rethrow();
  SLUICE_CHECK(lines.any(), kData, "there is no text to train a tokenizer on");
  SLUICE_CHECK(status.ok(), kData, "cannot train a {} tokenizer of {} tokens on this text: {}",
               training.model, training.vocabulary_size, without_location(status.message()));
  return model;
}

}  // namespace sluice
