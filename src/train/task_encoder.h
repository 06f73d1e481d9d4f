// The tokens a model is asked with, by the rules of lm-evaluation-harness.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "model/model_config.h"
#include "train/task_item.h"

namespace sluice {

// How probable is `continuation` behind `context`? Neither is empty.
struct ContinuationRequest {
  std::vector<int32_t> context, continuation;
  bool wants_greedy = false;  // ask too whether greedy decoding would say it

  int64_t tokens() const { return static_cast<int64_t>(context.size() + continuation.size()); }
  auto operator<=>(const ContinuationRequest&) const = default;
};

// What does greedy decoding say behind `prompt`, which is not empty?
struct AnswerRequest {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 0;

  int64_t tokens() const { return static_cast<int64_t>(prompt.size()); }
  auto operator<=>(const AnswerRequest&) const = default;
};

// bos_token_id of the model, where it has one, stands in front of everything. The tokenizer must outlive the
// encoder.
class TaskEncoder {
 public:
  // Error(kUsage) when the tokenizer knows tokens that the model does not.
  TaskEncoder(const Tokenizer& tokenizer, const ModelConfig& model);

  // White space at the end of the context belongs to the continuation; the continuation's tokens are those of
  // context + continuation behind as many as the context alone has. A context without tokens is bos_token_id,
  // or eos_token_id where the model has no bos. Error(kData) beginning with `place` where one of the two ends
  // up without tokens.
  ContinuationRequest pair(std::string_view context, std::string_view continuation,
                           const std::string& place) const;
  AnswerRequest prompt(std::string_view context, int64_t max_tokens) const;

  // A prompt for each length and depth, lengths first, of exactly the length: bos, haystack with the needle
  // in it, question. The needle stands at `depth` of the haystack, moved back to the end of a sentence. A
  // haystack that is too short is repeated. Error(kData) beginning with `place` for a length that leaves no
  // room to it.
  std::vector<AnswerRequest> needle_prompts(const NeedleItem& item, const std::string& place) const;

  // Whether an answer ends with this token: eos_token_id, or a line end in it.
  bool ends_answer(int32_t token) const;
  // The text of answer tokens up to the first line end.
  std::string answer_text(const std::vector<int32_t>& tokens) const;

 private:
  int64_t insertion_point(const std::vector<int32_t>& haystack, int64_t room, double depth) const;

  const Tokenizer& tokenizer_;
  std::optional<int32_t> bos_, eos_;
};

}  // namespace sluice
