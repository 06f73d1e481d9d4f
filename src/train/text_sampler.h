// Text from a model: the prompt in segments, then token by token on the carried state. For a model of
// constant state neither time nor memory of a token depends on how many came before.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "train/token_choice.h"

namespace sluice {

class Tokenizer;

struct SamplingOptions {
  ChoiceOptions choice;
  uint64_t seed = 0;
  uint64_t stream = 0;  // texts under one seed that shall differ have different streams
  int64_t max_tokens = 256;
  std::optional<int32_t> stop_token;  // ends the text and is not part of it
  int64_t prefill_segment = 2048;     // prompt tokens of one forward pass
};

struct SamplingStatistics {
  int64_t prompt_tokens = 0;
  int64_t tokens = 0;    // handed on, of all texts
  bool stopped = false;  // every text at the stop token, none at max_tokens
  double prefill_seconds = 0;
  double decode_seconds = 0;
  int64_t state_bytes = 0;  // held at the end
};

class TextSampler {
 public:
  // Error(kUsage) when an option is out of range or the stop token outside the vocabulary.
  TextSampler(const LanguageModel& model, const SamplingOptions& options);

  // Token number i is drawn with random number i of (seed, stream), so a text is a function of model, prompt
  // and options alone. An empty prompt stands for the model's bos_token_id. Error(kUsage) when there is none,
  // or a prompt token is outside the vocabulary; Error(kNumerics) for logits that are not finite.
  SamplingStatistics generate(std::span<const int32_t> prompt,
                              const std::function<void(int32_t token)>& on_token) const;
  // `texts` continuations of one prompt side by side; text i has stream + i.
  SamplingStatistics generate_many(std::span<const int32_t> prompt, int64_t texts,
                                   const std::function<void(int64_t text, int32_t token)>& on_token) const;

 private:
  std::vector<int32_t> choose(const Tensor& logits, int64_t position) const;
  std::vector<int32_t> checked_prompt(std::span<const int32_t> prompt) const;

  const LanguageModel& model_;
  SamplingOptions options_;
};

// `text` as the model saw documents begin: bos_token_id, where there is one, and the tokens of the text.
std::vector<int32_t> prompt_tokens(const LanguageModel& model, const Tokenizer& tokenizer,
                                   const std::string& text);

// The text the model continues `prompt` with.
std::string sample_text(const LanguageModel& model, const Tokenizer& tokenizer, const std::string& prompt,
                        const SamplingOptions& options);

}  // namespace sluice
