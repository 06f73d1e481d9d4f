#include "train/text_sampler.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "core/error.h"
#include "core/random.h"
#include "data/tokenizer.h"
#include "train/decoder.h"

namespace sluice {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

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
  return generate_many(prompt, 1, [&](int64_t, int32_t token) { on_token(token); });
}

// The next token of each text, from logits [texts, vocabulary] on the host, f32 or f64.
std::vector<int32_t> TextSampler::choose(const Tensor& logits, int64_t position) const {
  const int64_t texts = logits.size(0), vocabulary = logits.size(1);
  const bool wide = logits.dtype() == DType::kF64;
  const auto* const floats = wide ? nullptr : logits.data<float>();
  const auto* const doubles = wide ? logits.data<double>() : nullptr;
  std::vector<int32_t> chosen(static_cast<size_t>(texts));
  std::exception_ptr failure;
#pragma omp parallel for if (texts > 1)
  for (int64_t text = 0; text < texts; ++text) {
    try {
      const Philox random(options_.seed, options_.stream + static_cast<uint64_t>(text));
      const int64_t begin = text * vocabulary, end = begin + vocabulary;
      const auto own = wide ? std::vector<double>(doubles + begin, doubles + end)
                            : std::vector<double>(floats + begin, floats + end);
      chosen[static_cast<size_t>(text)] =
          choose_token(own, options_.choice, random.uniform(static_cast<uint64_t>(position)));
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return chosen;
}

SamplingStatistics TextSampler::generate_many(
    std::span<const int32_t> prompt, int64_t texts,
    const std::function<void(int64_t text, int32_t token)>& on_token) const {
  SLUICE_CHECK(texts >= 1, kUsage, "{} texts to generate: it must be at least 1", texts);
  const std::vector<int32_t> begin = checked_prompt(prompt);
  std::vector<int32_t> tokens;
  for (int64_t text = 0; text < texts; ++text) tokens.insert(tokens.end(), begin.begin(), begin.end());
  SamplingStatistics statistics;
  statistics.prompt_tokens = static_cast<int64_t>(tokens.size());
  Decoder decoder(model_, texts);
  const auto start = std::chrono::steady_clock::now();
  Tensor logits = decoder.advance_on_device(tokens, options_.prefill_segment).to(Device::kCpu);
  statistics.prefill_seconds = seconds_since(start);
  const auto decode_start = std::chrono::steady_clock::now();
  std::vector<char> stopped(static_cast<size_t>(texts), 0);
  int64_t running = texts;
  tokens.resize(static_cast<size_t>(texts));
  for (int64_t position = 0; position < options_.max_tokens && running > 0; ++position) {
    const std::vector<int32_t> chosen = choose(logits, position);
    for (int64_t text = 0; text < texts; ++text) {
      if (stopped[static_cast<size_t>(text)]) continue;  // its last token runs along, unread
      const int32_t token = chosen[static_cast<size_t>(text)];
      if (options_.stop_token == token) {
        stopped[static_cast<size_t>(text)] = 1;
        --running;
        continue;
      }
      tokens[static_cast<size_t>(text)] = token;
      on_token(text, token);
      ++statistics.tokens;
    }
    if (position + 1 < options_.max_tokens && running > 0)
      logits = decoder.advance_on_device(tokens, 1).to(Device::kCpu);
  }
  statistics.stopped = running == 0;
  statistics.decode_seconds = seconds_since(decode_start);
  statistics.state_bytes = decoder.state_bytes();
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
