#include "train/task_encoder.h"

#include <cmath>

#include "core/error.h"
#include "train/task_text.h"

namespace sluice {
namespace {

std::optional<int32_t> narrowed(const std::optional<int64_t>& id) {
  return id ? std::optional(static_cast<int32_t>(*id)) : std::nullopt;
}

bool ends_sentence(std::string_view bytes) {
  return !bytes.empty() && std::string_view(".!?\n").find(bytes.back()) != std::string_view::npos;
}

}  // namespace

TaskEncoder::TaskEncoder(const Tokenizer& tokenizer, const ModelConfig& model)
    : tokenizer_(tokenizer), bos_(narrowed(model.bos_token_id)), eos_(narrowed(model.eos_token_id)) {
  SLUICE_CHECK(tokenizer.vocabulary_size() <= model.vocab_size, kUsage,
               "{} has {} tokens and the model {}: it is the tokenizer of another model",
               tokenizer.path().string(), tokenizer.vocabulary_size(), model.vocab_size);
}

ContinuationRequest TaskEncoder::pair(std::string_view context, std::string_view continuation,
                                      const std::string& place) const {
  const std::string whole = std::string(context) + std::string(continuation);
  context = context.substr(0, length_without_trailing_space(context));
  ContinuationRequest request;
  const std::vector<int32_t> of_context = tokenizer_.encode(context), of_whole = tokenizer_.encode(whole);
  SLUICE_CHECK(of_whole.size() > of_context.size(), kData,
               "{}: \"{}\" has no tokens of its own behind its context of {}; {} has {} for both together",
               place, continuation, of_context.size(), tokenizer_.path().string(), of_whole.size());
  if (bos_) request.context.push_back(*bos_);
  request.context.insert(request.context.end(), of_context.begin(), of_context.end());
  if (request.context.empty() && eos_) request.context.push_back(*eos_);
  SLUICE_CHECK(!request.context.empty(), kData,
               "{}: an empty context needs a bos_token_id or eos_token_id in the model's config.json", place);
  request.continuation.assign(of_whole.begin() + static_cast<int64_t>(of_context.size()), of_whole.end());
  return request;
}

AnswerRequest TaskEncoder::prompt(std::string_view context, int64_t max_tokens) const {
  AnswerRequest request{{}, max_tokens};
  if (bos_) request.prompt.push_back(*bos_);
  const std::vector<int32_t> tokens = tokenizer_.encode(context);
  request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
  return request;
}

std::vector<AnswerRequest> TaskEncoder::needle_prompts(const NeedleItem& item,
                                                       const std::string& place) const {
  // The parts follow each other, so the tokenizer adds no space in front of any but the first.
  Encoder encoder(tokenizer_);
  std::vector<int32_t> haystack, needle, question;
  encoder.encode(item.haystack, false, haystack);
  encoder.encode(item.needle, true, needle);
  encoder.encode(item.question, true, question);
  const auto fixed = static_cast<int64_t>(needle.size() + question.size()) + (bos_ ? 1 : 0);
  SLUICE_CHECK(!haystack.empty(), kData, "{}: haystack: {} has no tokens for it", place,
               tokenizer_.path().string());
  std::vector<AnswerRequest> requests;
  for (const int64_t length : item.lengths) {
    const int64_t room = length - fixed;
    SLUICE_CHECK(room > 0, kData, "{}: lengths: {} tokens leave no room to the haystack; the rest takes {}",
                 place, length, fixed);
    std::vector<int32_t> filling;
    filling.reserve(static_cast<size_t>(room));
    while (static_cast<int64_t>(filling.size()) < room)
      filling.push_back(haystack[filling.size() % haystack.size()]);
    for (const double depth : item.depths) {
      const auto at = filling.begin() + insertion_point(filling, room, depth);
      AnswerRequest request{{}, item.max_tokens};
      std::vector<int32_t>& prompt = request.prompt;
      prompt.reserve(static_cast<size_t>(length));
      if (bos_) prompt.push_back(*bos_);
      prompt.insert(prompt.end(), filling.begin(), at);
      prompt.insert(prompt.end(), needle.begin(), needle.end());
      prompt.insert(prompt.end(), at, filling.end());
      prompt.insert(prompt.end(), question.begin(), question.end());
      requests.push_back(std::move(request));
    }
  }
  return requests;
}

// Back from the exact place to the end of a sentence; without one, the place itself.
int64_t TaskEncoder::insertion_point(const std::vector<int32_t>& haystack, int64_t room, double depth) const {
  const auto exact = static_cast<int64_t>(std::llround(depth * static_cast<double>(room)));
  if (depth == 1) return exact;
  for (int64_t at = exact; at > 0; --at) {
    if (ends_sentence(tokenizer_.bytes_of(haystack[static_cast<size_t>(at - 1)]))) return at;
  }
  return exact;
}

bool TaskEncoder::ends_answer(int32_t token) const {
  return token == eos_ || tokenizer_.bytes_of(token).find('\n') != std::string_view::npos;
}

std::string TaskEncoder::answer_text(const std::vector<int32_t>& tokens) const {
  const std::string text = tokenizer_.decode(tokens);
  return text.substr(0, text.find('\n'));
}

}  // namespace sluice
