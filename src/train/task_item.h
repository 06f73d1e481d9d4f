// What `evaluate --tasks` reads: a file of JSON objects, one item a line. docs/tasks.md is the format's page.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice {

enum class TaskType { kMultipleChoice, kLastWord, kContains, kNeedle };
std::string_view name_of(TaskType type);
// Error(kUsage) lists the known names.
TaskType parse_task_type(const std::string& name);

// Which of the choices continues its context best?
struct MultipleChoiceItem {
  std::vector<std::string> contexts;  // one for all choices, or one each
  std::vector<std::string> choices;   // at least two, none empty
  int64_t answer = 0;                 // index of the right one

  const std::string& context(size_t choice) const { return contexts[contexts.size() == 1 ? 0 : choice]; }
};

// Is the last word foreseen? LAMBADA.
struct LastWordItem {
  std::string context;  // up to the last space
  std::string target;   // that space and the word behind it
};

// Does the greedy continuation name an answer?
struct ContainsItem {
  std::string context;
  std::vector<std::string> answers;  // at least one, none empty
  int64_t max_tokens = 0;            // of the continuation, which a line end stops too
};

// Is a sentence found again, hidden at some depth of a long text? A prompt for each length and depth.
struct NeedleItem {
  std::string haystack, needle, question, answer;
  std::vector<int64_t> lengths;  // tokens of a prompt
  std::vector<double> depths;    // 0: the needle comes first, 1: right before the question
  int64_t max_tokens = 0;
};

using TaskContent = std::variant<MultipleChoiceItem, LastWordItem, ContainsItem, NeedleItem>;

struct TaskItem {
  int64_t line = 0;  // of the file, from 1
  std::string id;    // the author's own name for it, may be empty
  TaskContent content;

  TaskType type() const { return static_cast<TaskType>(content.index()); }
};

struct TaskFile {
  std::filesystem::path path;
  std::vector<TaskItem> items;

  std::string place_of(const TaskItem& item) const;  // "FILE: line 3", for messages
};

inline constexpr int64_t kDefaultAnswerTokens = 48;

// `type` is that of lines that name none. The file may be compressed (.gz, .xz, .zst); blank lines are
// skipped. Error(kData) naming the file, the line and every key of it that is missing, unknown or wrong.
TaskFile read_task_file(const std::filesystem::path& path, std::optional<TaskType> type);

}  // namespace sluice
