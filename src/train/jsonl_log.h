// A log of one JSON value a line. A resumed run cuts it back to where its checkpoint was saved, so that it
// reads as if the run had never stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/json.h"
#include "core/file.h"

namespace sluice {

class JsonlLog {
 public:
  // Keeps the lines that end within the first `resume_bytes` and goes on behind them; 0 starts anew. A log
  // that is shorter, as after a power failure, is continued with a warning. Creates missing directories.
  // Error(kCheckpoint).
  JsonlLog(const std::filesystem::path& path, int64_t resume_bytes);

  // One line in one write call, readable by others at once. NaN and infinities become the strings "nan",
  // "inf" and "-inf", invalid UTF-8 U+FFFD. Error(kCheckpoint) when it cannot be written whole; the part that
  // was is taken back.
  void write(const Json& value);

  int64_t size() const { return file_->size(); }  // bytes, all of them whole lines
  const std::filesystem::path& path() const { return path_; }
  void sync() { file_->sync(); }  // to be durable before the checkpoint that remembers size()

 private:
  std::filesystem::path path_;
  std::optional<OutputFile> file_;  // opened once the old lines are cut
};

// Calls `take` with the value of every whole line, in order; a last line without its newline is still being
// written, or was cut, and is left out. Error(kData) for any other line that is no JSON, with its number.
void for_each_jsonl(const std::filesystem::path& path, const std::function<void(Json)>& take);
// All of them at once.
std::vector<Json> read_jsonl(const std::filesystem::path& path);

}  // namespace sluice
