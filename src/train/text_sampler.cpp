#include "train/text_sampler.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/random.h"
#include "data/tokenizer.h"
#include "train/window_scorer.h"

namespace sluice {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::vector<double> advance(const LanguageModel& model, std::span<const int32_t> tokens, ModelState& state,
                            int64_t segment) {
  SLUICE_ASSERT(!tokens.empty() && segment >= 1);
  const NoGradScope no_grad;
  Variable hidden;
  for (size_t start = 0; start < tokens.size(); start += static_cast<size_t>(segment)) {
    const size_t count = std::min(static_cast<size_t>(segment), tokens.size() - start);
    const auto layout = ops::SequenceLayout::uniform(1, static_cast<int64_t>(count));
    hidden = model.forward(token_tensor(model, tokens.subspan(start, count)), layout, &state);
  }
  const Tensor last = hidden.value().narrow(0, hidden.size(0) - 1, 1);
  return model.logits(Variable(last)).value().to(DType::kF64).to_vector<double>();
}

TextSampler::TextSampler(const LanguageModel& model, const SamplingOptions& options)
    : model_(model), options_(options) {
  options.choice.check();
  SLUICE_CHECK(options.max_tokens >= 0, kUsage, "{} tokens to generate: it must be at least 0",
               options.max_tokens);
  SLUICE_CHECK(options.prefill_segment >= 1, kUsage, "a prompt segment of {} tokens: it must be at least 1",
               options.prefill_segment);
  const int64_t vocabulary = model.config().vocab_size;
  SLUICE_CHECK(!options.stop_token || (*options.stop_token >= 0 && *options.stop_token < vocabulary), kUsage,
               "stop token {} is outside the model's vocabulary of {}", *options.stop_token, vocabulary);
}

std::vector<int32_t> TextSampler::checked_prompt(std::span<const int32_t> prompt) const {
  const ModelConfig& config = model_.config();
  if (prompt.empty()) {
    SLUICE_CHECK(
        config.bos_token_id, kUsage,
        "an empty prompt starts from bos_token_id, which this model's config.json does not have; give "
        "a prompt");
    return {static_cast<int32_t>(*config.bos_token_id)};
  }
  for (const int32_t token : prompt) {
    SLUICE_CHECK(token >= 0 && token < config.vocab_size, kUsage,
                 "prompt token {} is outside the model's vocabulary of {}", token, config.vocab_size);
  }
  return {prompt.begin(), prompt.end()};
}

SamplingStatistics TextSampler::generate(std::span<const int32_t> prompt,
                                         const std::function<void(int32_t)>& on_token) const {
  const std::vector<int32_t> begin = checked_prompt(prompt);
  const Philox random(options_.seed, options_.stream);
  SamplingStatistics statistics;
  statistics.prompt_tokens = static_cast<int64_t>(begin.size());
  ModelState state = model_.make_state(1);
  const auto start = std::chrono::steady_clock::now();
  std::vector<double> logits = advance(model_, begin, state, options_.prefill_segment);
  statistics.prefill_seconds = seconds_since(start);
  const auto decode_start = std::chrono::steady_clock::now();
  while (statistics.tokens < options_.max_tokens) {
    const double uniform = random.uniform(static_cast<uint64_t>(statistics.tokens));
    const int32_t token = choose_token(logits, options_.choice, uniform);
    statistics.stopped = options_.stop_token == token;
    if (statistics.stopped) break;
    on_token(token);
    ++statistics.tokens;
    if (statistics.tokens < options_.max_tokens) logits = advance(model_, std::span(&token, 1), state, 1);
  }
  statistics.decode_seconds = seconds_since(decode_start);
  statistics.state_bytes = state.bytes();
  return statistics;
}

std::vector<int32_t> prompt_tokens(const LanguageModel& model, const Tokenizer& tokenizer,
                                   const std::string& text) {
  std::vector<int32_t> tokens;
  if (model.config().bos_token_id) tokens.push_back(static_cast<int32_t>(*model.config().bos_token_id));
  const std::vector<int32_t> of_text = tokenizer.encode(text);
  tokens.insert(tokens.end(), of_text.begin(), of_text.end());
  return tokens;
}

std::string sample_text(const LanguageModel& model, const Tokenizer& tokenizer, const std::string& prompt,
                        const SamplingOptions& options) {
  std::vector<int32_t> tokens;
  TextSampler(model, options).generate(prompt_tokens(model, tokenizer, prompt), [&](int32_t token) {
    tokens.push_back(token);
  });
  return tokenizer.decode(tokens);
}

}  // namespace sluice
