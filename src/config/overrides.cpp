#include "config/overrides.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "config/object_reader.h"

namespace sluice {
namespace {

// As deep as a file may be.
constexpr size_t kMaximumKeys = 32;

std::vector<std::string> split_path(std::string_view text, std::string_view path) {
  std::vector<std::string> keys;
  size_t first = 0;
  while (first <= path.size()) {
    const size_t dot = std::min(path.find('.', first), path.size());
    SLUICE_CHECK(dot > first, kUsage, "{}: empty key; the form is section.key=value", printable(text));
    keys.emplace_back(path.substr(first, dot - first));
    first = dot + 1;
  }
  SLUICE_CHECK(keys.size() <= kMaximumKeys, kUsage, "{}: {} keys are too many, at most {}", printable(text),
               keys.size(), kMaximumKeys);
  return keys;
}

Json read_value(std::string_view text, const std::string& value) {
  const size_t first = value.find_first_not_of(" \t\r\n");
  const char start = first == value.npos ? '\0' : value[first];
  try {
    return parse_json(value, printable(text), ErrorKind::kUsage);
  } catch (const Error&) {
    if (start == '{' || start == '[' || start == '"') throw;
    return value;
  }
}

std::optional<size_t> as_index(std::string_view key) {
  size_t index = 0;
  const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), index);
  if (code != std::errc() || end != key.data() + key.size()) return std::nullopt;
  return index;
}

// The place of `key` inside `parent`, made when it is missing.
Json& step_into(Json& parent, const std::string& key, std::string_view text, const std::string& walked) {
  // A list that does not exist yet can only be started at its first element.
  if (parent.is_null()) parent = key == "0" ? Json::array() : Json::object();
  if (parent.is_object()) return parent[key];
  SLUICE_CHECK(parent.is_array(), kUsage, "{}: {} is {}, which has no key {}", printable(text),
               printable(walked), describe(parent), printable(key));
  const auto index = as_index(key);
  SLUICE_CHECK(index && *index <= parent.size(), kUsage, "{}: {} is a list of {}, {} is no index of it",
               printable(text), printable(walked), parent.size(), printable(key));
  return parent[*index];  // one past the end appends
}

}  // namespace

Override parse_override(std::string_view text) {
  const size_t equals = text.find('=');
  SLUICE_CHECK(equals != text.npos && equals > 0, kUsage, "{}: the form is section.key=value",
               printable(text));
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

void apply_override(Json& root, std::string_view text) {
  const Override change = parse_override(text);
  const std::vector<std::string> keys = split_path(text, change.path);
  Json value = read_value(text, change.value);
  Json changed = root;
  Json* place = &changed;
  std::string walked;
  for (const std::string& key : keys) {
    place = &step_into(*place, key, text, walked);
    walked += (walked.empty() ? "" : ".") + key;
  }
  *place = std::move(value);
  root = std::move(changed);
}

}  // namespace sluice
