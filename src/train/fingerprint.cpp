#include "train/fingerprint.h"

#include <charconv>

#include "config/object_reader.h"

namespace sluice {

std::string format_fingerprint(uint64_t fingerprint) { return fmt::format("{:016x}", fingerprint); }

uint64_t read_fingerprint(ObjectReader& reader, std::string_view key) {
  const std::string text = reader.required_text(key);
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.size() == 16 && code == std::errc() && end == text.data() + text.size()) return value;
  if (!text.empty()) {
    reader.problem(key, fmt::format("16 hexadecimal digits are needed, got {}", printable(text)));
  }
  return 0;
}

}  // namespace sluice
