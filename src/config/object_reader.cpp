#include "config/object_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/key_recorder.h"
#include "config/nearest.h"

namespace sluice {
namespace {

const Json& empty_object() {
  static const Json value = Json::object();
  return value;
}

template <class Number>
std::string describe_bounds(Number min, Number max, Number least, Number most) {
  const auto shown = [](Number value) { return dump_json(Json(value), -1); };
  if (min == least && max == most) return "";
  if (max == most) return "at least " + shown(min);
  if (min == least) return "at most " + shown(max);
  return shown(min) + " to " + shown(max);
}

int64_t nearest_to_zero(int64_t min, int64_t max) { return std::clamp<int64_t>(0, min, max); }

}  // namespace

ObjectReader::ObjectReader(const Json& value, std::string path, Problems& problems,
                           std::span<const std::string> known_paths)
    : object_(&value), path_(std::move(path)), problems_(&problems), known_paths_(known_paths) {
  if (value.is_object()) return;
  problems_->add(path_, fmt::format("expected an object, got {}", describe(value)));
  object_ = &empty_object();
}

int64_t ObjectReader::integer(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  if (recording()) note(key, "integer", Json(fallback), describe_bounds(min, max, kMinInteger, kMaxInteger));
  const Json* value = raw(key);
  return value ? read_integer(key, *value, min, max).value_or(fallback) : fallback;
}

double ObjectReader::number(std::string_view key, double fallback, double min, double max) {
  if (recording()) note(key, "number", Json(fallback), describe_bounds(min, max, kMinNumber, kMaxNumber));
  const Json* value = raw(key);
  return value ? read_number(key, *value, min, max).value_or(fallback) : fallback;
}

bool ObjectReader::boolean(std::string_view key, bool fallback) {
  if (recording()) note(key, "boolean", Json(fallback));
  const Json* value = raw(key);
  return value ? read_boolean(key, *value).value_or(fallback) : fallback;
}

std::string ObjectReader::text(std::string_view key, const std::string& fallback) {
  if (recording()) note(key, "string", Json(fallback));
  const Json* value = raw(key);
  return value ? read_text(key, *value).value_or(fallback) : fallback;
}

std::vector<std::string> ObjectReader::text_list(std::string_view key,
                                                 const std::vector<std::string>& fallback) {
  if (recording()) note(key, "list of strings", Json(fallback));
  const Json* value = raw(key);
  if (!value) return fallback;
  if (!value->is_array()) {
    wrong_type(key, "a list of strings", *value);
    return fallback;
  }
  std::vector<std::string> result;
  bool sound = true;
  for (size_t i = 0; i < value->size(); ++i) {
    const auto item = read_text(fmt::format("{}.{}", key, i), (*value)[i]);
    sound = sound && item.has_value();
    result.push_back(item.value_or(""));
  }
  return sound ? result : fallback;
}

std::string ObjectReader::choice(std::string_view key, const std::string& fallback,
                                 const std::vector<std::string>& choices) {
  std::string expected;
  for (size_t i = 0; i < choices.size(); ++i) {
    expected += fmt::format("{}\"{}\"", i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ", choices[i]);
  }
  if (recording()) note(key, "string", Json(fallback), expected);
  const Json* value = raw(key);
  if (!value) return fallback;
  if (value->is_string()) {
    const auto& given = value->get_ref<const std::string&>();
    if (std::find(choices.begin(), choices.end(), given) != choices.end()) return given;
  }
  wrong_type(key, expected, *value);
  return fallback;
}

std::optional<int64_t> ObjectReader::optional_integer(std::string_view key, int64_t min, int64_t max) {
  if (recording()) note(key, "integer", nullptr, describe_bounds(min, max, kMinInteger, kMaxInteger));
  const Json* value = find_set(key);
  return value ? read_integer(key, *value, min, max) : std::nullopt;
}

std::optional<double> ObjectReader::optional_number(std::string_view key, double min, double max) {
  if (recording()) note(key, "number", nullptr, describe_bounds(min, max, kMinNumber, kMaxNumber));
  const Json* value = find_set(key);
  return value ? read_number(key, *value, min, max) : std::nullopt;
}

std::optional<bool> ObjectReader::optional_boolean(std::string_view key) {
  if (recording()) note(key, "boolean", nullptr);
  const Json* value = find_set(key);
  return value ? read_boolean(key, *value) : std::nullopt;
}

std::optional<std::string> ObjectReader::optional_text(std::string_view key) {
  if (recording()) note(key, "string", nullptr);
  const Json* value = find_set(key);
  return value ? read_text(key, *value) : std::nullopt;
}

int64_t ObjectReader::required_integer(std::string_view key, int64_t min, int64_t max) {
  if (recording()) note_required(key, "integer", describe_bounds(min, max, kMinInteger, kMaxInteger));
  const int64_t fallback = nearest_to_zero(min, max);
  return require(key) ? integer(key, fallback, min, max) : fallback;
}

double ObjectReader::required_number(std::string_view key, double min, double max) {
  if (recording()) note_required(key, "number", describe_bounds(min, max, kMinNumber, kMaxNumber));
  const double fallback = std::clamp(0.0, min, max);
  return require(key) ? number(key, fallback, min, max) : fallback;
}

bool ObjectReader::required_boolean(std::string_view key) {
  if (recording()) note_required(key, "boolean");
  return require(key) && boolean(key, false);
}

std::string ObjectReader::required_text(std::string_view key) {
  if (recording()) note_required(key, "string");
  return require(key) ? text(key, "") : "";
}

ObjectReader ObjectReader::object(std::string_view key) {
  const Json* value = raw(key);
  return ObjectReader(value ? *value : empty_object(), path_of(key), *problems_, known_paths_);
}

ObjectReader ObjectReader::required_object(std::string_view key) {
  require(key);
  return object(key);
}

bool ObjectReader::has(std::string_view key) const { return find(key) != nullptr; }

const Json* ObjectReader::raw(std::string_view key) {
  if (recording()) KeyRecorder::current()->add({path_of(key), "any", "", "", false});
  ignore(key);
  return find(key);
}

void ObjectReader::ignore(std::string_view key) { asked_.emplace(key); }

void ObjectReader::problem(std::string_view key, std::string message) {
  problems_->add(path_of(key), std::move(message));
}

std::string ObjectReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void ObjectReader::finish() {
  for (const auto& [key, value] : object_->items()) {
    if (!asked_.contains(key)) problem(key, "unknown key" + suggestion(key));
  }
}

std::string ObjectReader::suggestion(std::string_view key) const {
  // A slip of the pen in this section, or a key that belongs to another one: there a slip costs a little
  // more, and has to be smaller.
  double best_cost = std::numeric_limits<double>::infinity();
  std::string best;
  const auto consider = [&](const std::string& path, double cost) {
    if (cost >= best_cost) return;
    best_cost = cost;
    best = path;
  };
  for (const std::string& candidate : asked_) {
    if (const auto distance = slip_distance(key, candidate)) {
      consider(path_of(candidate), static_cast<double>(*distance));
    }
  }
  for (const std::string& path : known_paths_) {
    const size_t dot = path.rfind('.');
    const std::string_view leaf = std::string_view(path).substr(dot == path.npos ? 0 : dot + 1);
    const auto distance = slip_distance(key, leaf);
    if (distance && *distance <= 1) consider(path, static_cast<double>(*distance) + 0.5);
  }
  return best.empty() ? "" : fmt::format("; did you mean {}?", best);
}

const Json* ObjectReader::find(std::string_view key) const {
  const auto found = object_->find(std::string(key));
  return found == object_->end() ? nullptr : &*found;
}

const Json* ObjectReader::find_set(std::string_view key) {
  const Json* value = raw(key);
  return value && !value->is_null() ? value : nullptr;
}

bool ObjectReader::recording() { return KeyRecorder::current() != nullptr; }

void ObjectReader::note(std::string_view key, const char* type, const Json& fallback,
                        const std::string& bounds) const {
  KeyRecorder::current()->add({path_of(key), type, dump_json(fallback, -1), bounds, false});
}

void ObjectReader::note_required(std::string_view key, const char* type, const std::string& bounds) const {
  KeyRecorder::current()->add({path_of(key), type, "", bounds, true});
}

bool ObjectReader::require(std::string_view key) {
  if (raw(key)) return true;
  problem(key, "required, but missing");
  return false;
}

}  // namespace sluice
