#include "train/task_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "ops/embedding.h"
#include "train/decoder.h"
#include "train/token_choice.h"
#include "train/window_scorer.h"

namespace sluice {
namespace {

// Texts that decode side by side: each holds a state, and a row of logits on the host.
constexpr size_t kMaximumAnswers = 64;
// Logits that exist at once where the most probable token is looked for.
constexpr int64_t kMaximumLogits = int64_t{1} << 24;

// What runs, and when: a schedule that does not depend on the order in which requests are given.
struct Schedule {
  std::vector<size_t> order;    // requests by falling length, each that is there twice only once
  std::vector<size_t> same_as;  // for every request the one of `order` that equals it

  template <class Request, class Result>
  void copy_results(std::span<const Request> requests, std::vector<Result>& results,
                    const TaskScorer::Advanced& advanced) const {
    int64_t tokens = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (same_as[i] == i) continue;
      results[i] = results[same_as[i]];
      tokens += requests[i].tokens();
    }
    if (tokens > 0) advanced(tokens);
  }
};

template <class Request>
Schedule longest_first(std::span<const Request> requests) {
  std::vector<size_t> sorted(requests.size());
  std::iota(sorted.begin(), sorted.end(), size_t{0});
  std::sort(sorted.begin(), sorted.end(), [&](size_t a, size_t b) {
    const int64_t first = requests[a].tokens(), second = requests[b].tokens();
    return first != second ? first > second : requests[a] < requests[b];
  });
  Schedule schedule;
  schedule.same_as.resize(requests.size());
  for (const size_t index : sorted) {
    if (schedule.order.empty() || requests[schedule.order.back()] != requests[index]) {
      schedule.order.push_back(index);
    }
    schedule.same_as[index] = schedule.order.back();
  }
  return schedule;
}

// Calls visit(requests) for stretches of the order that hold at most `batch_tokens` and `maximum` of
// them.
template <class Length, class Visit>
void for_each_batch(const std::vector<size_t>& order, int64_t batch_tokens, size_t maximum,
                    const Length& length, const Visit& visit) {
  for (size_t first = 0; first < order.size();) {
    size_t count = 0;
    int64_t tokens = 0;
    do {
      tokens += length(order[first + count++]);
    } while (first + count < order.size() && count < maximum &&
             tokens + length(order[first + count]) <= batch_tokens);
    visit(std::span(order).subspan(first, count));
    first += count;
  }
}

// The continuation's tokens that one forward pass foresees.
struct Foreseen {
  std::vector<int32_t> positions;  // rows of the hidden states
  std::vector<int32_t> labels;
  std::vector<size_t> owners;  // indices of requests
};

class ContinuationPass {
 public:
  // `wholes`: each request's context and continuation.
  ContinuationPass(const LanguageModel& model, std::span<const ContinuationRequest> requests,
                   std::span<const std::vector<int32_t>> wholes, std::vector<ContinuationScore>& scores)
      : model_(model), requests_(requests), wholes_(wholes), scores_(scores) {}

  // Every sequence from nothing, in one pass.
  void run_packed(std::span<const size_t> batch) {
    ops::SequenceLayout layout;
    layout.offsets.push_back(0);
    std::vector<int32_t> inputs;
    Foreseen foreseen;
    for (const size_t index : batch) {
      const auto before = static_cast<int64_t>(inputs.size());
      const std::vector<int32_t>& whole = wholes_[index];
      inputs.insert(inputs.end(), whole.begin(), whole.end() - 1);
      layout.offsets.push_back(static_cast<int64_t>(inputs.size()));
      foresee(index, 0, static_cast<int64_t>(whole.size()) - 1, before, foreseen);
    }
    layout.state_in.assign(batch.size(), -1);
    layout.state_out.assign(batch.size(), -1);
    score(model_.forward(token_tensor(model_, inputs), layout, nullptr), foreseen);
  }

  // One sequence in passes of `segment` tokens with its state carried.
  void run_long(size_t index, int64_t segment) {
    const std::vector<int32_t>& whole = wholes_[index];
    const auto inputs = static_cast<int64_t>(whole.size()) - 1;
    ModelState state = model_.make_state(1);
    for (int64_t first = 0; first < inputs; first += segment) {
      const int64_t count = std::min(segment, inputs - first);
      Foreseen foreseen;
      foresee(index, first, first + count, 0, foreseen);
      const auto part = std::span(whole).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      score(model_.forward(token_tensor(model_, part), ops::SequenceLayout::uniform(1, count), &state),
            foreseen);
    }
  }

 private:
  // Of inputs [first, end), whose first one is hidden row `row`, those with a continuation token behind them.
  void foresee(size_t index, int64_t first, int64_t end, int64_t row, Foreseen& foreseen) const {
    const auto context = static_cast<int64_t>(requests_[index].context.size());
    for (int64_t input = std::max(first, context - 1); input < end; ++input) {
      foreseen.positions.push_back(static_cast<int32_t>(row + input - first));
      foreseen.labels.push_back(wholes_[index][static_cast<size_t>(input + 1)]);
      foreseen.owners.push_back(index);
    }
  }

  void score(const Variable& hidden, const Foreseen& foreseen) {
    const auto rows = static_cast<size_t>(std::max<int64_t>(1, kMaximumLogits / model_.config().vocab_size));
    for (size_t first = 0; first < foreseen.owners.size(); first += rows) {
      const size_t count = std::min(rows, foreseen.owners.size() - first);
      const auto owners = std::span(foreseen.owners).subspan(first, count);
      const auto labels = std::span(foreseen.labels).subspan(first, count);
      // Looking rows up by number is what an embedding does.
      const Variable selected =
          ops::embedding(token_tensor(model_, std::span(foreseen.positions).subspan(first, count)), hidden);
      const auto losses = model_.token_losses(selected, token_tensor(model_, labels))
                              .to(Device::kCpu)
                              .to(DType::kF64)
                              .to_vector<double>();
      for (size_t i = 0; i < count; ++i) scores_[owners[i]].log_likelihood -= losses[i];
      const bool wanted = std::any_of(owners.begin(), owners.end(),
                                      [&](size_t owner) { return requests_[owner].wants_greedy; });
      if (wanted) compare_greedy(selected, labels, owners);
    }
  }

  void compare_greedy(const Variable& selected, std::span<const int32_t> labels,
                      std::span<const size_t> owners) {
    const auto logits = model_.logits(selected).to(Device::kCpu).to(DType::kF64).to_vector<double>();
    const auto vocabulary = static_cast<size_t>(model_.config().vocab_size);
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto row = std::span(logits).subspan(i * vocabulary, vocabulary);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      if (best != labels[i]) scores_[owners[i]].greedy = false;
    }
  }

  const LanguageModel& model_;
  std::span<const ContinuationRequest> requests_;
  std::span<const std::vector<int32_t>> wholes_;
  std::vector<ContinuationScore>& scores_;
};

}  // namespace

ModelScorer::ModelScorer(const LanguageModel& model, int64_t batch_tokens, int64_t vocabulary)
    : model_(model), batch_tokens_(batch_tokens), vocabulary_(vocabulary) {
  SLUICE_CHECK(batch_tokens >= 1, kUsage, "{} tokens a batch: it must be at least 1", batch_tokens);
  SLUICE_ASSERT(vocabulary >= 1 && vocabulary <= model.config().vocab_size);
}

std::vector<ContinuationScore> ModelScorer::score(std::span<const ContinuationRequest> requests,
                                                  const Advanced& advanced) const {
  const NoGradScope no_grad;
  std::vector<ContinuationScore> scores(requests.size());
  std::vector<std::vector<int32_t>> wholes;
  for (size_t i = 0; i < requests.size(); ++i) {
    const ContinuationRequest& request = requests[i];
    SLUICE_ASSERT(!request.context.empty() && !request.continuation.empty());
    scores[i].greedy = request.wants_greedy;
    wholes.push_back(request.context);
    wholes.back().insert(wholes.back().end(), request.continuation.begin(), request.continuation.end());
  }
  const Schedule schedule = longest_first(requests);
  const auto inputs_of = [&](size_t index) { return requests[index].tokens() - 1; };
  ContinuationPass pass(model_, requests, wholes, scores);
  for_each_batch(
      schedule.order, batch_tokens_, requests.size(), inputs_of, [&](std::span<const size_t> batch) {
        if (inputs_of(batch.front()) > batch_tokens_) {
          pass.run_long(batch.front(), batch_tokens_);
        } else {
          pass.run_packed(batch);
        }
        int64_t tokens = 0;
        for (const size_t index : batch) {
          tokens += requests[index].tokens();
          SLUICE_CHECK(
              std::isfinite(scores[index].log_likelihood), kNumerics,
              "the log-likelihood of {} tokens behind {} is {}: the model's weights or its arithmetic "
              "are broken",
              requests[index].continuation.size(), requests[index].context.size(),
              scores[index].log_likelihood);
        }
        advanced(tokens);
      });
  schedule.copy_results(requests, scores, advanced);
  return scores;
}

std::vector<std::vector<int32_t>> ModelScorer::answer(std::span<const AnswerRequest> requests,
                                                      const EndsAnswer& ends,
                                                      const Advanced& advanced) const {
  std::vector<std::vector<int32_t>> answers(requests.size());
  const Schedule schedule = longest_first(requests);
  const auto length = [&](size_t index) { return requests[index].tokens(); };
  const auto rows = static_cast<size_t>(model_.config().vocab_size);
  for_each_batch(schedule.order, batch_tokens_, kMaximumAnswers, length, [&](std::span<const size_t> batch) {
    Decoder decoder(model_, static_cast<int64_t>(batch.size()));
    std::vector<std::vector<int32_t>> prompts;
    for (const size_t index : batch) prompts.push_back(requests[index].prompt);
    std::vector<double> logits =
        prompts.size() == 1 ? decoder.advance(prompts.front(), batch_tokens_) : decoder.begin(prompts);
    std::vector<int32_t> last(batch.size(), 0);
    std::vector<char> running(batch.size(), 1);
    for (;;) {
      for (size_t row = 0; row < batch.size(); ++row) {
        if (!running[row]) continue;  // its last token runs along, unread
        const auto own = std::span(logits).subspan(row * rows, static_cast<size_t>(vocabulary_));
        last[row] = choose_token(own, {.temperature = 0}, 0);
        std::vector<int32_t>& answer = answers[batch[row]];
        answer.push_back(last[row]);
        running[row] =
            !ends(last[row]) && static_cast<int64_t>(answer.size()) < requests[batch[row]].max_tokens;
      }
      if (std::find(running.begin(), running.end(), 1) == running.end()) break;
      logits = decoder.advance(last, 1);
    }
    int64_t tokens = 0;
    for (const size_t index : batch) tokens += length(index);
    advanced(tokens);
  });
  schedule.copy_results(requests, answers, advanced);
  return answers;
}

}  // namespace sluice
