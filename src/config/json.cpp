#include "config/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/json_builder.h"
#include "core/file.h"

namespace sluice {
namespace {

// Far above any configuration, manifest or tensor index: what is larger is the wrong file.
constexpr int64_t kMaximumBytes = int64_t{256} << 20;

void name_nonfinite(Json& value) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::isnan(number)) {
      value = "nan";
    } else if (std::isinf(number)) {
      value = number > 0 ? "inf" : "-inf";
    }
  } else if (value.is_structured()) {
    for (Json& child : value) name_nonfinite(child);
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& origin, ErrorKind kind) {
  JsonBuilder builder(text, origin, kind);
  return builder.parse();
}

Json read_json_file(const std::filesystem::path& path, ErrorKind kind) {
  const int64_t size = InputFile(path, kind).size();
  if (size > kMaximumBytes) {
    throw_error(kind, __FILE__, __LINE__,
                fmt::format("{}: {} bytes are too many for a JSON file; the limit is {}", path.string(), size,
                            kMaximumBytes));
  }
  return parse_json(read_text_file(path, kind), path.string(), kind);
}

std::string dump_json(const Json& value, int indent) {
  Json copy = value;
  name_nonfinite(copy);
  return copy.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string printable(std::string_view text, size_t limit) {
  const bool cut = text.size() > limit;
  if (cut) {
    // Never inside a character: its continuation bytes are 10xxxxxx.
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
    text = text.substr(0, limit);
  }
  const std::string escaped = Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string result;
  for (size_t i = 1; i + 1 < escaped.size(); ++i) {
    // Quotes and backslashes are printable as they are; the writer put a backslash before each.
    if (escaped[i] == '\\' && (escaped[i + 1] == '"' || escaped[i + 1] == '\\')) ++i;
    result += escaped[i];
  }
  return cut ? result + "..." : result;
}

}  // namespace sluice
