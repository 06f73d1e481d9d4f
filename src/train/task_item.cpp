#include "train/task_item.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "config/object_reader.h"
#include "core/error.h"
#include "data/byte_reader.h"

namespace sluice {
namespace {

// In the order of TaskContent's alternatives.
constexpr std::array<std::string_view, 4> kTypeNames = {"multiple_choice", "last_word", "contains", "needle"};

std::vector<std::string> type_names() { return {kTypeNames.begin(), kTypeNames.end()}; }

std::string read_whole(const std::filesystem::path& path) {
  constexpr size_t kPiece = size_t{1} << 20;
  const auto reader = open_bytes(path);
  std::string text;
  for (size_t got = kPiece; got == kPiece;) {
    const size_t had = text.size();
    text.resize(had + kPiece);
    got = reader->read(std::span(text).subspan(had));
    text.resize(had + got);
  }
  return text;
}

std::string filled_text(ObjectReader& reader, std::string_view key) {
  std::string text = reader.required_text(key);
  if (text.empty() && reader.has(key)) reader.problem(key, "must not be empty");
  return text;
}

std::vector<std::string> texts(ObjectReader& reader, std::string_view key, size_t minimum) {
  const bool there = reader.has(key);
  std::vector<std::string> values = reader.text_list(key, {});
  if (!there) {
    reader.problem(key, "is required");
  } else if (values.size() < minimum) {
    reader.problem(key,
                   fmt::format("must be an array of at least {} string{}", minimum, minimum == 1 ? "" : "s"));
  }
  return values;
}

void refuse_empty(ObjectReader& reader, std::string_view key, const std::vector<std::string>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].empty()) reader.problem(fmt::format("{}.{}", key, i), "must not be empty");
  }
}

// The numbers of an array, each within [min, max].
std::vector<double> numbers(ObjectReader& reader, std::string_view key, double min, double max,
                            bool integers) {
  const Json* array = reader.raw(key);
  if (array == nullptr || !array->is_array() || array->empty()) {
    reader.problem(key,
                   array == nullptr ? "is required" : "must be an array of numbers, got " + describe(*array));
    return {};
  }
  std::vector<double> values;
  for (size_t i = 0; i < array->size(); ++i) {
    const Json& element = (*array)[i];
    const double value = element.is_number() ? element.get<double>() : NAN;
    if (!(value >= min && value <= max) || (integers && value != std::floor(value))) {
      reader.problem(fmt::format("{}.{}", key, i),
                     fmt::format("must be {} from {} to {}, got {}", integers ? "an integer" : "a number",
                                 min, max, describe(element)));
    }
    values.push_back(value);
  }
  if (std::set<double>(values.begin(), values.end()).size() < values.size()) {
    reader.problem(key, "names a number twice");
  }
  return values;
}

MultipleChoiceItem read_multiple_choice(ObjectReader& reader) {
  MultipleChoiceItem item;
  item.choices = texts(reader, "choices", 2);
  refuse_empty(reader, "choices", item.choices);
  if (reader.has("contexts")) {
    item.contexts = texts(reader, "contexts", 1);
    if (item.contexts.size() != item.choices.size()) {
      reader.problem("contexts", fmt::format("{} contexts for {} choices: there must be one each",
                                             item.contexts.size(), item.choices.size()));
    }
    if (reader.has("context")) {
      reader.ignore("context");
      reader.problem("context", "stands beside contexts; give one of the two");
    }
  } else {
    item.contexts = {reader.required_text("context")};
  }
  const auto last = static_cast<int64_t>(std::max<size_t>(item.choices.size(), 1)) - 1;
  item.answer = reader.required_integer("answer", 0, last);
  return item;
}

LastWordItem read_last_word(ObjectReader& reader) {
  const std::string text = reader.required_text("text");
  const size_t space = text.rfind(' ');
  if (reader.has("text") && (space == std::string::npos || space == 0 || space + 1 == text.size())) {
    reader.problem("text", "must hold a context, a space and a last word behind it");
    return {};
  }
  if (space == std::string::npos) return {};
  return {text.substr(0, space), text.substr(space)};
}

int64_t read_max_tokens(ObjectReader& reader) {
  return reader.integer("max_tokens", kDefaultAnswerTokens, 1);
}

ContainsItem read_contains(ObjectReader& reader) {
  ContainsItem item;
  item.context = filled_text(reader, "context");
  item.answers = texts(reader, "answers", 1);
  refuse_empty(reader, "answers", item.answers);
  item.max_tokens = read_max_tokens(reader);
  return item;
}

// A text holds white space somewhere; what holds none is the path of a text, beside the task file.
std::string read_haystack(ObjectReader& reader, const std::filesystem::path& folder) {
  std::string value = filled_text(reader, "haystack");
  if (value.empty() || value.find_first_of(" \t\n\r") != std::string::npos) return value;
  const std::filesystem::path path = folder / value;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    reader.problem("haystack", fmt::format("holds no white space, so it names a file, and there is no {}",
                                           path.string()));
    return {};
  }
  value = read_whole(path);
  if (value.empty()) reader.problem("haystack", fmt::format("{} is empty", path.string()));
  return value;
}

NeedleItem read_needle(ObjectReader& reader, const std::filesystem::path& folder) {
  constexpr double kLongest = 1 << 30;
  NeedleItem item;
  item.haystack = read_haystack(reader, folder);
  item.needle = filled_text(reader, "needle");
  item.question = filled_text(reader, "question");
  item.answer = filled_text(reader, "answer");
  for (const double length : numbers(reader, "lengths", 1, kLongest, true)) {
    item.lengths.push_back(length >= 1 && length <= kLongest ? static_cast<int64_t>(length) : 1);
  }
  item.depths = numbers(reader, "depths", 0, 1, false);
  item.max_tokens = read_max_tokens(reader);
  return item;
}

std::optional<TaskType> read_type(ObjectReader& reader, std::optional<TaskType> fallback) {
  if (!reader.has("type") && !fallback) {
    reader.problem("type", "is required where --task-type is not given");
    return std::nullopt;
  }
  const std::string name =
      reader.choice("type", std::string(name_of(fallback.value_or(TaskType::kMultipleChoice))), type_names());
  return parse_task_type(name);
}

TaskItem read_item(const Json& json, const std::string& place, const std::filesystem::path& folder,
                   std::optional<TaskType> fallback) {
  Problems problems;
  ObjectReader reader(json, "", problems);
  TaskItem item;
  const std::optional<TaskType> type = read_type(reader, fallback);
  problems.throw_if_any(place, ErrorKind::kData);  // which keys belong here depends on the type
  item.id = reader.text("id", "");
  switch (*type) {
    case TaskType::kMultipleChoice:
      item.content = read_multiple_choice(reader);
      break;
    case TaskType::kLastWord:
      item.content = read_last_word(reader);
      break;
    case TaskType::kContains:
      item.content = read_contains(reader);
      break;
    case TaskType::kNeedle:
      item.content = read_needle(reader, folder);
      break;
  }
  reader.finish();
  problems.throw_if_any(place, ErrorKind::kData);
  return item;
}

std::string place(const std::filesystem::path& path, int64_t line) {
  return fmt::format("{}: line {}", path.string(), line);
}

}  // namespace

std::string_view name_of(TaskType type) { return kTypeNames[static_cast<size_t>(type)]; }

TaskType parse_task_type(const std::string& name) {
  std::string known;
  for (size_t i = 0; i < kTypeNames.size(); ++i) {
    if (name == kTypeNames[i]) return static_cast<TaskType>(i);
    known.append(known.empty() ? "" : ", ").append(kTypeNames[i]);
  }
  SLUICE_FAIL(kUsage, "task type \"{}\" is not known; known are: {}", name, known);
}

std::string TaskFile::place_of(const TaskItem& item) const { return place(path, item.line); }

TaskFile read_task_file(const std::filesystem::path& path, std::optional<TaskType> type) {
  TaskFile file;
  file.path = path;
  const std::string text = read_whole(path);
  const std::filesystem::path folder = path.parent_path();
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string origin = place(path, line);
    file.items.push_back(read_item(parse_json(content, origin, ErrorKind::kData), origin, folder, type));
    file.items.back().line = line;
  }
  SLUICE_CHECK(!file.items.empty(), kData, "{}: holds no items", path.string());
  return file;
}

}  // namespace sluice
