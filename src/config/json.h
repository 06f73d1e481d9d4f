// JSON as every file of the project uses it: read strictly, written stably.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sluice {

// Keys keep the order of the file. Whoever touches values includes <nlohmann/json.hpp>.
using Json = nlohmann::ordered_json;

// Strict: one value and nothing behind it, no comments, no duplicate keys, valid UTF-8, at most 64 levels.
// The error has the given kind and reads "ORIGIN: line 3, column 7: ...", columns counted in bytes from 1.
Json parse_json(std::string_view text, const std::string& origin, ErrorKind kind);
Json read_json_file(const std::filesystem::path& path, ErrorKind kind);

// Indented by `indent` spaces, or on one line for -1; no newline at the end. Doubles read back bit for bit,
// invalid UTF-8 is replaced by U+FFFD, and NaN and infinities become the strings "nan", "inf" and "-inf".
std::string dump_json(const Json& value, int indent = 2);

// `text` for a message: control characters escaped, invalid UTF-8 replaced, cut after about `limit` bytes.
std::string printable(std::string_view text, size_t limit = 80);

}  // namespace sluice
