#include "train/jsonl_log.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/log.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Bytes up to the end of the last line that ends within the first `limit` bytes.
int64_t whole_lines(const InputFile& file, int64_t limit) {
  constexpr int64_t kPiece = 1 << 16;
  int64_t end = std::min(limit, file.size());
  std::string buffer;
  while (end > 0) {
    const int64_t begin = std::max<int64_t>(0, end - kPiece);
    buffer.resize(static_cast<size_t>(end - begin));
    file.read_at(begin, std::span(buffer.data(), buffer.size()));
    if (const size_t newline = buffer.rfind('\n'); newline != std::string::npos) {
      return begin + static_cast<int64_t>(newline) + 1;
    }
    end = begin;
  }
  return 0;
}

// Devices and pipes cannot be cut, and hold nothing either.
bool is_regular(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

void cut(const fs::path& path, int64_t resume_bytes) {
  if (!is_regular(path)) return;
  int64_t kept = 0;
  if (resume_bytes > 0) {
    const InputFile file(path, ErrorKind::kCheckpoint);
    kept = whole_lines(file, resume_bytes);
    if (kept != resume_bytes) {
      log::warning(
          "{}: the checkpoint was saved at byte {} of this log, whose lines end at {}; lines are missing",
          path.string(), resume_bytes, kept);
    }
  }
  std::error_code code;
  fs::resize_file(path, static_cast<uintmax_t>(kept), code);
  SLUICE_CHECK(!code, kCheckpoint, "{}: cannot cut the log to {} bytes: {}", path.string(), kept,
               code.message());
}

}  // namespace

JsonlLog::JsonlLog(const fs::path& path, int64_t resume_bytes) : path_(path) {
  if (path.has_parent_path()) create_directories(path.parent_path(), ErrorKind::kCheckpoint);
  cut(path, resume_bytes);
  file_.emplace(path, ErrorKind::kCheckpoint, OutputFile::Mode::kAppend);
}

void JsonlLog::write(const Json& value) {
  const int64_t before = size();
  try {
    file_->write(dump_json(value, -1) + "\n");
  } catch (const Error& error) {
    // A later resume must find whole lines. The descriptor may stand beyond the end now, so it is opened
    // anew.
    std::error_code ignored;
    if (is_regular(path_)) fs::resize_file(path_, static_cast<uintmax_t>(before), ignored);
    *file_ = OutputFile(path_, ErrorKind::kCheckpoint, OutputFile::Mode::kAppend);
    SLUICE_FAIL(kCheckpoint, "{}; the log cannot go on after byte {}", error.what(), before);
  }
}

void for_each_jsonl(const fs::path& path, const std::function<void(Json)>& take) {
  const std::string text = read_text_file(path, ErrorKind::kData);
  int64_t line = 0;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const std::string origin = fmt::format("{}:{}", path.string(), ++line);
    take(parse_json(std::string_view(text).substr(begin, end - begin), origin, ErrorKind::kData));
    begin = end + 1;
  }
}

std::vector<Json> read_jsonl(const fs::path& path) {
  std::vector<Json> values;
  for_each_jsonl(path, [&](Json value) { values.push_back(std::move(value)); });
  return values;
}

}  // namespace sluice
