// Scores of task files: what `evaluate --tasks` computes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/task_encoder.h"
#include "train/task_item.h"
#include "train/task_scorer.h"

namespace sluice {

// A mean and its standard error, sample standard deviation / sqrt(n); none for a single value.
struct TaskMeasure {
  std::string name;
  double value = 0;
  std::optional<double> standard_error;
};

// What one item, or one prompt of a needle item, came to.
struct TaskOutcome {
  int64_t line = 0;
  std::string id;
  std::vector<double> scores;           // 0 or 1, in the order of the task's accuracy measures
  std::vector<double> log_likelihoods;  // multiple_choice: of each choice; last_word: of the target
  std::optional<std::string> output;    // contains, needle: what the model said
  int64_t length = 0;                   // needle
  double depth = 0;                     // needle
};

// The prompts of one length and depth.
struct NeedleCell {
  int64_t length = 0;
  double depth = 0;
  int64_t prompts = 0;
  TaskMeasure contains;
};

// The items of one type in one file. Measures, means over outcomes:
//   multiple_choice  acc: the choice of largest log-likelihood is the answer; acc_norm: of largest
//                    log-likelihood a character of the choice; acc_bytes: a UTF-8 byte
//   last_word        acc: greedy decoding says the target; perplexity: exp of the mean negative
//   log-likelihood
//                    of a target, its standard error to first order
//   contains, needle contains: the answer is in what the model said
// Among equal choices the first counts.
struct TaskResult {
  std::string file;
  TaskType type = TaskType::kMultipleChoice;
  int64_t items = 0;
  int64_t tokens = 0;   // of all contexts and continuations, or prompts
  int64_t longest = 0;  // of one of them
  double seconds = 0;
  std::vector<TaskMeasure> measures;
  std::vector<NeedleCell> cells;  // by length, then depth
  std::vector<TaskOutcome> outcomes;
};

// Called with the tokens done so far, of how many.
using TaskProgress = std::function<void(int64_t done, int64_t total)>;

// One result for each type in the file, in order of first appearance. Every request is made before the first
// is run, so that what is wrong with an item is found at once.
std::vector<TaskResult> evaluate_tasks(const TaskFile& file, const TaskEncoder& encoder,
                                       const TaskScorer& scorer, const TaskProgress& progress = {});

}  // namespace sluice
