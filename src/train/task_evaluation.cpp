#include "train/task_evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "core/error.h"
#include "train/task_text.h"

namespace sluice {
namespace {

TaskMeasure mean_of(std::string name, const std::vector<double>& values) {
  TaskMeasure measure{std::move(name), 0, std::nullopt};
  const auto n = static_cast<double>(values.size());
  for (const double value : values) measure.value += value;
  measure.value /= n;
  if (values.size() < 2) return measure;
  double squares = 0;
  for (const double value : values) squares += (value - measure.value) * (value - measure.value);
  measure.standard_error = std::sqrt(squares / (n - 1) / n);
  return measure;
}

TaskMeasure mean_score(std::string name, const std::vector<TaskOutcome>& outcomes, size_t score) {
  std::vector<double> values;
  for (const TaskOutcome& outcome : outcomes) values.push_back(outcome.scores[score]);
  return mean_of(std::move(name), values);
}

// The first of the largest quotients.
size_t best_choice(const std::vector<double>& log_likelihoods, const std::vector<double>& lengths) {
  size_t best = 0;
  for (size_t i = 1; i < lengths.size(); ++i) {
    if (log_likelihoods[i] / lengths[i] > log_likelihoods[best] / lengths[best]) best = i;
  }
  return best;
}

// The items of one type, on their way from requests to a result.
class Task {
 public:
  Task(const TaskFile& file, TaskType type) { result_.file = file.path.string(), result_.type = type; }
  virtual ~Task() = default;

  // Makes the item's requests.
  virtual void add(const TaskItem& item, const std::string& place, const TaskEncoder& encoder) = 0;
  virtual void run(const TaskScorer& scorer, const TaskEncoder& encoder,
                   const TaskScorer::Advanced& advanced) = 0;

  int64_t tokens() const { return result_.tokens; }
  TaskResult& result() { return result_; }

 protected:
  TaskOutcome& add_outcome(const TaskItem& item) {
    TaskOutcome& outcome = result_.outcomes.emplace_back();
    outcome.line = item.line;
    outcome.id = item.id;
    return outcome;
  }
  void count(size_t tokens) {
    result_.tokens += static_cast<int64_t>(tokens);
    result_.longest = std::max(result_.longest, static_cast<int64_t>(tokens));
  }

  TaskResult result_;
};

class ContinuationTask : public Task {
 public:
  using Task::Task;

  void add(const TaskItem& item, const std::string& place, const TaskEncoder& encoder) override {
    items_.push_back(&item);
    if (const auto* word = std::get_if<LastWordItem>(&item.content)) {
      add_request(encoder.pair(word->context, word->target, place));
      requests_.back().wants_greedy = true;
      return;
    }
    const auto& choice = std::get<MultipleChoiceItem>(item.content);
    for (size_t i = 0; i < choice.choices.size(); ++i) {
      add_request(encoder.pair(choice.context(i), choice.choices[i], place));
    }
  }

  void run(const TaskScorer& scorer, const TaskEncoder&, const TaskScorer::Advanced& advanced) override {
    const std::vector<ContinuationScore> scores = scorer.score(requests_, advanced);
    auto next = scores.begin();
    for (const TaskItem* item : items_) {
      TaskOutcome& outcome = add_outcome(*item);
      if (const auto* choice = std::get_if<MultipleChoiceItem>(&item->content)) {
        for (size_t i = 0; i < choice->choices.size(); ++i) {
          outcome.log_likelihoods.push_back((next++)->log_likelihood);
        }
        judge(*choice, outcome);
      } else {
        outcome.log_likelihoods = {next->log_likelihood};
        outcome.scores = {(next++)->greedy ? 1.0 : 0.0};
      }
    }
    const std::vector<std::string> names = result_.type == TaskType::kMultipleChoice
                                               ? std::vector<std::string>{"acc", "acc_norm", "acc_bytes"}
                                               : std::vector<std::string>{"acc"};
    for (size_t i = 0; i < names.size(); ++i) {
      result_.measures.push_back(mean_score(names[i], result_.outcomes, i));
    }
    if (result_.type == TaskType::kLastWord) result_.measures.push_back(perplexity());
  }

 private:
  void add_request(ContinuationRequest request) {
    count(request.context.size() + request.continuation.size());
    requests_.push_back(std::move(request));
  }

  static void judge(const MultipleChoiceItem& item, TaskOutcome& outcome) {
    const std::vector<double> ones(item.choices.size(), 1.0);
    std::vector<double> characters, bytes;
    for (const std::string& choice : item.choices) {
      characters.push_back(static_cast<double>(character_count(choice)));
      bytes.push_back(static_cast<double>(choice.size()));
    }
    for (const auto& lengths : {ones, characters, bytes}) {
      const auto best = static_cast<int64_t>(best_choice(outcome.log_likelihoods, lengths));
      outcome.scores.push_back(best == item.answer ? 1.0 : 0.0);
    }
  }

  TaskMeasure perplexity() const {
    std::vector<double> losses;
    for (const TaskOutcome& outcome : result_.outcomes) losses.push_back(-outcome.log_likelihoods.front());
    TaskMeasure measure = mean_of("perplexity", losses);
    measure.value = std::exp(measure.value);
    if (measure.standard_error) *measure.standard_error *= measure.value;
    return measure;
  }

  std::vector<const TaskItem*> items_;
  std::vector<ContinuationRequest> requests_;
};

class AnswerTask : public Task {
 public:
  using Task::Task;

  void add(const TaskItem& item, const std::string& place, const TaskEncoder& encoder) override {
    if (const auto* contains = std::get_if<ContainsItem>(&item.content)) {
      add_request(item, encoder.prompt(contains->context, contains->max_tokens), contains->answers);
      return;
    }
    const auto& needle = std::get<NeedleItem>(item.content);
    std::vector<AnswerRequest> prompts = encoder.needle_prompts(needle, place);
    auto prompt = prompts.begin();
    for (const int64_t length : needle.lengths) {
      for (const double depth : needle.depths) {
        TaskOutcome& outcome = add_request(item, std::move(*prompt++), {needle.answer});
        outcome.length = length;
        outcome.depth = depth;
      }
    }
  }

  void run(const TaskScorer& scorer, const TaskEncoder& encoder,
           const TaskScorer::Advanced& advanced) override {
    const auto answers = scorer.answer(
        requests_, [&](int32_t token) { return encoder.ends_answer(token); }, advanced);
    for (size_t i = 0; i < answers.size(); ++i) {
      TaskOutcome& outcome = result_.outcomes[i];
      outcome.output = encoder.answer_text(answers[i]);
      outcome.scores = {contains_any(*outcome.output, expected_[i]) ? 1.0 : 0.0};
    }
    result_.measures = {mean_score("contains", result_.outcomes, 0)};
    if (result_.type == TaskType::kNeedle) fill_cells();
  }

 private:
  TaskOutcome& add_request(const TaskItem& item, AnswerRequest request, std::vector<std::string> answers) {
    count(request.prompt.size());
    requests_.push_back(std::move(request));
    expected_.push_back(std::move(answers));
    return add_outcome(item);
  }

  void fill_cells() {
    std::map<std::pair<int64_t, double>, std::vector<double>> scores;
    for (const TaskOutcome& outcome : result_.outcomes) {
      scores[{outcome.length, outcome.depth}].push_back(outcome.scores.front());
    }
    for (const auto& [place, values] : scores) {
      result_.cells.push_back(
          {place.first, place.second, static_cast<int64_t>(values.size()), mean_of("contains", values)});
    }
  }

  std::vector<AnswerRequest> requests_;
  std::vector<std::vector<std::string>> expected_;  // of each request
};

std::unique_ptr<Task> make_task(const TaskFile& file, TaskType type) {
  if (type == TaskType::kMultipleChoice || type == TaskType::kLastWord) {
    return std::make_unique<ContinuationTask>(file, type);
  }
  return std::make_unique<AnswerTask>(file, type);
}

}  // namespace

std::vector<TaskResult> evaluate_tasks(const TaskFile& file, const TaskEncoder& encoder,
                                       const TaskScorer& scorer, const TaskProgress& progress) {
  std::vector<std::unique_ptr<Task>> tasks;
  for (const TaskItem& item : file.items) {
    auto task = std::find_if(tasks.begin(), tasks.end(),
                             [&](const auto& known) { return known->result().type == item.type(); });
    if (task == tasks.end()) task = tasks.insert(task, make_task(file, item.type()));
    (*task)->add(item, file.place_of(item), encoder);
    ++(*task)->result().items;
  }
  int64_t total = 0, done = 0;
  for (const auto& task : tasks) total += task->tokens();
  std::vector<TaskResult> results;
  for (const auto& task : tasks) {
    const auto start = std::chrono::steady_clock::now();
    task->run(scorer, encoder, [&](int64_t tokens) {
      done += tokens;
      if (progress) progress(done, total);
    });
    task->result().seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    results.push_back(std::move(task->result()));
  }
  return results;
}

}  // namespace sluice
