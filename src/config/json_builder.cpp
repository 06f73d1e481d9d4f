#include "config/json_builder.h"

#include <algorithm>
#include <cctype>
#include <iterator>

namespace sluice {
namespace {

// Feeds the tokenizer and counts what it takes: its events carry no position.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, size_t* count) : at_(at), count_(count) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*count_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* count_;
};

// The run of letters and digits around `offset`, to recognise NaN and its like.
std::string_view word_at(std::string_view text, size_t offset) {
  const auto is_letter = [&](size_t i) { return std::isalnum(static_cast<unsigned char>(text[i])) != 0; };
  size_t first = std::min(offset, text.size());
  size_t last = first;
  while (first > 0 && is_letter(first - 1)) --first;
  while (last < text.size() && is_letter(last)) ++last;
  return text.substr(first, last - first);
}

}  // namespace

Json JsonBuilder::parse() {
  // The tokenizer takes a zero byte for the end and would accept anything behind it.
  if (const size_t zero = text_.find('\0'); zero != std::string_view::npos) {
    fail(zero, "a zero byte has no place in JSON");
  }
  const CountingIterator first(text_.data(), &consumed_);
  const CountingIterator last(text_.data() + text_.size(), &consumed_);
  Json::sax_parse(first, last, this);
  return std::move(root_);
}

bool JsonBuilder::null() { return place(nullptr) != nullptr; }
bool JsonBuilder::boolean(bool value) { return place(value) != nullptr; }
bool JsonBuilder::number_integer(Json::number_integer_t value) { return place(value) != nullptr; }
bool JsonBuilder::number_unsigned(Json::number_unsigned_t value) { return place(value) != nullptr; }
bool JsonBuilder::number_float(Json::number_float_t value, const Json::string_t&) {
  return place(value) != nullptr;
}
bool JsonBuilder::string(Json::string_t& value) { return place(std::move(value)) != nullptr; }
bool JsonBuilder::binary(Json::binary_t&) {
  SLUICE_FAIL(kInternal, "{}: binary value in JSON text", origin_);
}

bool JsonBuilder::start_object(size_t) {
  open(Json::object());
  return true;
}

bool JsonBuilder::start_array(size_t) {
  open(Json::array());
  return true;
}

bool JsonBuilder::key(Json::string_t& key) {
  Level& level = levels_.back();
  level.key = std::move(key);
  if (!level.keys.insert(level.key).second) {
    // The tokenizer stands behind the closing quote; point at it.
    fail(consumed_ - 1, fmt::format("duplicate key {}", printable(path(), 200)));
  }
  return true;
}

bool JsonBuilder::end_object() {
  levels_.pop_back();
  return true;
}

bool JsonBuilder::end_array() {
  levels_.pop_back();
  return true;
}

bool JsonBuilder::parse_error(size_t position, const std::string&, const Json::exception& error) {
  const size_t offset = std::min(position > 0 ? position - 1 : 0, text_.size());
  // "[json.exception...] parse error at line 1, column 2: REASON": the position is said in our own words.
  std::string_view reason = error.what();
  if (const size_t end = reason.find("] "); end != std::string_view::npos) reason.remove_prefix(end + 2);
  if (reason.starts_with("parse error at ")) reason.remove_prefix(reason.find(": ") + 2);
  std::string message = printable(reason, 200);
  const std::string_view word = word_at(text_, offset);
  const bool outside_string =
      reason.find("invalid literal") != reason.npos || reason.find("invalid number") != reason.npos;
  if (outside_string &&
      (word == "NaN" || word == "nan" || word == "Infinity" || word == "Inf" || word == "inf")) {
    message = fmt::format("{} is no JSON value; numbers must be finite", word);
  }
  fail(offset, message);
}

Json* JsonBuilder::place(Json value) {
  if (levels_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  Level& level = levels_.back();
  if (level.value->is_array()) {
    auto& items = level.value->get_ref<Json::array_t&>();
    return &items.emplace_back(std::move(value));
  }
  // Duplicates are refused in key(), so the linear search of an ordinary insertion is not needed.
  auto& members = level.value->get_ref<Json::object_t&>();
  return &members.emplace_back(level.key, std::move(value)).second;
}

void JsonBuilder::open(Json value) {
  if (levels_.size() == kMaximumDepth) {
    fail(consumed_ - 1, fmt::format("nested deeper than {} levels", kMaximumDepth));
  }
  Json* placed = place(std::move(value));
  levels_.push_back({placed, {}, {}});
}

std::string JsonBuilder::path() const {
  std::string result;
  for (const Level& level : levels_) {
    if (!result.empty()) result += '.';
    // An array's open element is its last one.
    result += level.value->is_array() ? std::to_string(level.value->size() - 1) : level.key;
  }
  return result;
}

void JsonBuilder::fail(size_t offset, const std::string& message) const {
  const std::string_view before = text_.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? offset + 1 : offset - newline;
  throw_error(kind_, __FILE__, __LINE__,
              fmt::format("{}: line {}, column {}: {}", origin_, line, column, message));
}

}  // namespace sluice
