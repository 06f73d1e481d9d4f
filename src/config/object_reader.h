// One JSON object, read strictly: every getter names its key, its type and its bounds, whatever is wrong goes
// to a list of problems, and keys nobody asked for are problems too.
//
//   Problems problems;
//   ObjectReader reader(json, "optimizer", problems);
//   config.lr = reader.number("lr", 3e-4, 0);
//   config.name = reader.choice("name", "adamw", {"adamw"});
//   reader.finish();
//   problems.throw_if_any("run.json", ErrorKind::kUsage);
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/json.h"
#include "config/problems.h"

namespace sluice {

// Getters never throw on what the file holds: a missing key gives the default, a wrong one a problem and the
// default. A required key that is missing is a problem, and the value stands in for it: 0, "", false, or the
// bound nearest to 0. Types are never converted, but an integer is a number, and a number without a fraction
// and below 2^53, such as 1e3, is an integer. null is a value only for the optional_ getters, where it means
// absent.
class ObjectReader {
 public:
  static constexpr int64_t kMinInteger = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();
  static constexpr double kMinNumber = std::numeric_limits<double>::lowest();
  static constexpr double kMaxNumber = std::numeric_limits<double>::max();

  // `path` is the object's own place in the file, "" for the whole. A value that is no object is a problem
  // and read as {}. `known_paths`, full paths of keys of the whole file, lets finish() suggest a key of
  // another section. Everything passed by reference must outlive the reader.
  ObjectReader(const Json& value, std::string path, Problems& problems,
               std::span<const std::string> known_paths = {});

  // Bounds are inclusive.
  int64_t integer(std::string_view key, int64_t fallback, int64_t min = kMinInteger,
                  int64_t max = kMaxInteger);
  uint64_t unsigned_integer(std::string_view key, uint64_t fallback);  // all of 64 bits, for seeds
  // Finite unless a bound is infinite. Infinity is written "inf" or "-inf", as dump_json does, or, as Hugging
  // Face does, {"__float__": "Infinity"}. NaN is never a value.
  double number(std::string_view key, double fallback, double min = kMinNumber, double max = kMaxNumber);
  bool boolean(std::string_view key, bool fallback);
  std::string text(std::string_view key, const std::string& fallback);
  std::vector<std::string> text_list(std::string_view key, const std::vector<std::string>& fallback);
  std::string choice(std::string_view key, const std::string& fallback,
                     const std::vector<std::string>& choices);

  std::optional<int64_t> optional_integer(std::string_view key, int64_t min = kMinInteger,
                                          int64_t max = kMaxInteger);
  std::optional<double> optional_number(std::string_view key, double min = kMinNumber,
                                        double max = kMaxNumber);
  std::optional<bool> optional_boolean(std::string_view key);
  std::optional<std::string> optional_text(std::string_view key);

  int64_t required_integer(std::string_view key, int64_t min = kMinInteger, int64_t max = kMaxInteger);
  double required_number(std::string_view key, double min = kMinNumber, double max = kMaxNumber);
  bool required_boolean(std::string_view key);
  std::string required_text(std::string_view key);

  // A reader of the object under `key`, of {} where there is none; call its finish() too.
  ObjectReader object(std::string_view key);
  ObjectReader required_object(std::string_view key);

  bool has(std::string_view key) const;   // there, null included; does not count as reading it
  const Json* raw(std::string_view key);  // nullptr when absent; the caller checks it
  void ignore(std::string_view key);      // may be there and changes nothing

  // A problem of this key, for checks that the getters do not cover.
  void problem(std::string_view key, std::string message);
  std::string path_of(std::string_view key) const;  // "optimizer.lr"

  // Reports every key that was not asked for, with the nearest one that was.
  void finish();

 private:
  const Json* find(std::string_view key) const;
  const Json* find_set(std::string_view key);  // marks the key as read; nullptr for null as well
  bool require(std::string_view key);
  void wrong_type(std::string_view key, std::string_view expected, const Json& value);
  std::optional<int64_t> read_integer(std::string_view key, const Json& value, int64_t min, int64_t max);
  std::optional<double> read_number(std::string_view key, const Json& value, double min, double max);
  std::optional<bool> read_boolean(std::string_view key, const Json& value);
  std::optional<std::string> read_text(std::string_view key, const Json& value);
  std::string suggestion(std::string_view key) const;
  // For the KeyRecorder of this thread.
  static bool recording();
  void note(std::string_view key, const char* type, const Json& fallback,
            const std::string& bounds = "") const;
  void note_required(std::string_view key, const char* type, const std::string& bounds = "") const;

  const Json* object_;
  std::string path_;
  Problems* problems_;
  std::span<const std::string> known_paths_;
  std::set<std::string, std::less<>> asked_;
};

// "the string \"3\"", "1.9", "null", "an array": a value for the "got" of a message.
std::string describe(const Json& value);

}  // namespace sluice
