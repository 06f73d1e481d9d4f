// What tasks ask of a model, and the model's way of answering: batches of requests of similar length.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/language_model.h"
#include "train/task_encoder.h"

namespace sluice {

struct ContinuationScore {
  double log_likelihood = 0;  // nats, summed over the continuation's tokens
  bool greedy = false;        // every token of it is the most probable one; only where that was asked
};

class TaskScorer {
 public:
  using Advanced =
      std::function<void(int64_t tokens)>;  // so many more context and continuation tokens are done
  using EndsAnswer = std::function<bool(int32_t token)>;

  virtual ~TaskScorer() = default;
  // In the order of the requests.
  virtual std::vector<ContinuationScore> score(std::span<const ContinuationRequest> requests,
                                               const Advanced& advanced) const = 0;
  // Greedy answers, up to and with the first token that `ends` one, at most max_tokens of each request.
  virtual std::vector<std::vector<int32_t>> answer(std::span<const AnswerRequest> requests,
                                                   const EndsAnswer& ends,
                                                   const Advanced& advanced) const = 0;
};

// Requests go through the model longest first, as many side by side as `batch_tokens` hold: a packed batch of
// sequences without padding. One that is longer by itself runs alone, in passes of batch_tokens with the
// state carried. Equal requests run once. Scores do not depend on the order of the requests, and on
// batch_tokens only as sums of floating-point numbers depend on the shape of a matrix product.
class ModelScorer : public TaskScorer {
 public:
  // Answers are made of the tokens below `vocabulary` alone: a model's vocabulary may be padded beyond its
  // tokenizer's. Error(kUsage) when batch_tokens is below 1.
  ModelScorer(const LanguageModel& model, int64_t batch_tokens, int64_t vocabulary);

  // Error(kNumerics) for a log-likelihood that is not finite.
  std::vector<ContinuationScore> score(std::span<const ContinuationRequest> requests,
                                       const Advanced& advanced) const override;
  std::vector<std::vector<int32_t>> answer(std::span<const AnswerRequest> requests, const EndsAnswer& ends,
                                           const Advanced& advanced) const override;

 private:
  const LanguageModel& model_;
  int64_t batch_tokens_;
  int64_t vocabulary_;
};

}  // namespace sluice
