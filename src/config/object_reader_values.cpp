// Values: what counts as an integer, a number, and so on, and the words for what does not.
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/object_reader.h"

namespace sluice {
namespace {

// Doubles up to here hold every integer exactly.
constexpr double kExactInteger = 9007199254740992.0;  // 2^53

// An infinity as dump_json or Hugging Face's config.json write it.
std::optional<double> read_infinity(const Json& value) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (value == "inf") return kInfinity;
  if (value == "-inf") return -kInfinity;
  if (!value.is_object() || value.size() != 1 || !value.contains("__float__")) return std::nullopt;
  const Json& name = value["__float__"];
  if (name == "Infinity") return kInfinity;
  if (name == "-Infinity") return -kInfinity;
  return std::nullopt;
}

std::optional<int64_t> as_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(ObjectReader::kMaxInteger)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::trunc(number) == number && std::abs(number) < kExactInteger) {
      return static_cast<int64_t>(number);
    }
  }
  return std::nullopt;
}

std::string in_bounds(int64_t min, int64_t max) {
  if (min == ObjectReader::kMinInteger && max == ObjectReader::kMaxInteger) return " of 64 bits";
  if (max == ObjectReader::kMaxInteger) return fmt::format(" of at least {}", min);
  if (min == ObjectReader::kMinInteger) return fmt::format(" of at most {}", max);
  return fmt::format(" from {} to {}", min, max);
}

std::string in_bounds(double min, double max) {
  const bool from = min > ObjectReader::kMinNumber;
  const bool to = max < ObjectReader::kMaxNumber;
  if (from && to) return fmt::format(" from {} to {}", min, max);
  if (from) return fmt::format(" of at least {}", min);
  if (to) return fmt::format(" of at most {}", max);
  return "";
}

}  // namespace

uint64_t ObjectReader::unsigned_integer(std::string_view key, uint64_t fallback) {
  if (recording()) note(key, "integer", Json(fallback), "at least 0");
  const Json* value = raw(key);
  if (!value) return fallback;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  const auto number = as_integer(*value);
  if (number && *number >= 0) return static_cast<uint64_t>(*number);
  wrong_type(key, fmt::format("an integer from 0 to {}", std::numeric_limits<uint64_t>::max()), *value);
  return fallback;
}

std::optional<int64_t> ObjectReader::read_integer(std::string_view key, const Json& value, int64_t min,
                                                  int64_t max) {
  const auto number = as_integer(value);
  if (number && *number >= min && *number <= max) return number;
  wrong_type(key, "an integer" + in_bounds(min, max), value);
  return std::nullopt;
}

std::optional<double> ObjectReader::read_number(std::string_view key, const Json& value, double min,
                                                double max) {
  const auto number = value.is_number() ? value.get<double>() : read_infinity(value);
  // A NaN, which only a value built in memory can hold, is within no bounds.
  if (number && *number >= min && *number <= max) return number;
  const char* finite = min >= kMinNumber && max <= kMaxNumber ? "a finite number" : "a number";
  wrong_type(key, finite + in_bounds(min, max), value);
  return std::nullopt;
}

std::optional<bool> ObjectReader::read_boolean(std::string_view key, const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  wrong_type(key, "true or false", value);
  return std::nullopt;
}

std::optional<std::string> ObjectReader::read_text(std::string_view key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  wrong_type(key, "a string", value);
  return std::nullopt;
}

void ObjectReader::wrong_type(std::string_view key, std::string_view expected, const Json& value) {
  problem(key, fmt::format("expected {}, got {}", expected, describe(value)));
}

std::string describe(const Json& value) {
  if (value.is_string()) {
    return fmt::format("the string \"{}\"", printable(value.get_ref<const std::string&>()));
  }
  if (value.is_object()) return read_infinity(value) ? "an infinity" : "an object";
  if (value.is_array()) return value.empty() ? "an empty list" : "a list";
  return dump_json(value);
}

}  // namespace sluice
