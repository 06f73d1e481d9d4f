// The strict reader behind parse_json: the library's tokenizer, with our own rules on the events it reports.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "config/json.h"

namespace sluice {

class JsonBuilder {
 public:
  static constexpr size_t kMaximumDepth = 64;

  // `text` and `origin` must outlive the builder.
  JsonBuilder(std::string_view text, const std::string& origin, ErrorKind kind)
      : text_(text), origin_(origin), kind_(kind) {}

  // Once per builder.
  Json parse();

  // Events of nlohmann's SAX interface; all but parse_error return true, going on.
  bool null();
  bool boolean(bool value);
  bool number_integer(Json::number_integer_t value);
  bool number_unsigned(Json::number_unsigned_t value);
  bool number_float(Json::number_float_t value, const Json::string_t& text);
  bool string(Json::string_t& value);
  bool binary(Json::binary_t& value);
  bool start_object(size_t size);
  bool key(Json::string_t& key);
  bool end_object();
  bool start_array(size_t size);
  bool end_array();
  bool parse_error(size_t position, const std::string& token, const Json::exception& error);

 private:
  struct Level {
    Json* value;
    std::string key;                       // of the member being read, in objects
    std::unordered_set<std::string> keys;  // seen so far, in objects
  };

  Json* place(Json value);
  void open(Json value);
  std::string path() const;
  [[noreturn]] void fail(size_t offset, const std::string& message) const;

  std::string_view text_;
  const std::string& origin_;
  ErrorKind kind_;
  size_t consumed_ = 0;  // bytes the tokenizer has taken
  Json root_;
  std::vector<Level> levels_;  // open objects and arrays, outermost first
};

}  // namespace sluice
