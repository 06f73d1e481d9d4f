#include "data/text_source.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/error.h"
#include "data/byte_reader.h"
#include "data/utf8.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

bool is_jsonl(const fs::path& path) {
  const auto ending = without_compression(path).extension();
  return ending == ".jsonl" || ending == ".ndjson";
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

void list_directory(const fs::path& directory, const std::vector<std::string>& extensions,
                    std::vector<fs::path>& files) {
  std::vector<fs::path> found;
  std::error_code code;
  for (fs::recursive_directory_iterator at(directory, code), end; !code && at != end; at.increment(code)) {
    if (is_hidden(at->path())) {
      at.disable_recursion_pending();
      continue;
    }
    const std::string ending = without_compression(at->path()).extension().string();
    const bool wanted =
        extensions.empty() || std::find(extensions.begin(), extensions.end(), ending) != extensions.end();
    if (wanted && at->is_regular_file(code) && !code) found.push_back(at->path());
  }
  SLUICE_CHECK(!code, kData, "{}: cannot list directory: {}", directory.string(), code.message());
  std::sort(found.begin(), found.end());
  files.insert(files.end(), found.begin(), found.end());
}

// Bytes of the next piece of `text`; `last`: nothing comes behind it.
size_t piece_length(std::string_view text, bool last, size_t limit) {
  if (last && text.size() <= limit) return text.size();
  const std::string_view window = text.substr(0, limit);
  if (const size_t line_end = window.rfind('\n'); line_end != std::string_view::npos) return line_end + 1;
  for (size_t space = window.rfind(' '); space != std::string_view::npos && space > 0;
       space = window.rfind(' ', space - 1)) {
    if (window[space - 1] != ' ') return space;
  }
  return window.size() - utf8::incomplete_tail(window);
}

}  // namespace

TextSource::TextSource(const std::vector<fs::path>& paths, TextOptions options)
    : options_(std::move(options)) {
  SLUICE_ASSERT(options_.piece_bytes >= 16);
  for (const fs::path& path : paths) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
      list_directory(path, options_.extensions, files_);
    } else {
      files_.push_back(path);
    }
  }
  SLUICE_CHECK(!files_.empty(), kData, "{}: no text files{} in this directory",
               paths.empty() ? "no input" : paths.front().string(),
               options_.extensions.empty() ? "" : " with the extensions asked for");
  for (const fs::path& file : files_) bytes_total_ += InputFile(file, ErrorKind::kData).size();
}

TextSource::~TextSource() = default;

int64_t TextSource::bytes_read() const { return bytes_before_ + (reader_ ? reader_->position() : 0); }

void TextSource::open_next_file() {
  reader_ = open_bytes(files_[file_]);
  lines_ = is_jsonl(files_[file_]);
  at_end_ = begun_ = false;
  line_ = 0;
  buffer_.clear();
  used_ = 0;
  ++file_;
}

// Reads on until `wanted` bytes are there; false when the file has no more.
bool TextSource::fill(size_t wanted) {
  if (buffer_.size() - used_ >= wanted || at_end_) return buffer_.size() - used_ >= wanted;
  buffer_.erase(0, used_);
  used_ = 0;
  const size_t had = buffer_.size();
  buffer_.resize(wanted);
  const size_t got = reader_->read(std::span(buffer_).subspan(had));
  buffer_.resize(had + got);
  at_end_ = had + got < wanted;
  return !at_end_;
}

// Puts the text of the next JSONL line into document_; false at the end of the file.
bool TextSource::take_line() {
  const fs::path& path = files_[file_ - 1];
  size_t searched = 0, end = std::string::npos;
  for (size_t wanted = options_.piece_bytes;; wanted *= 2) {
    const bool more = fill(wanted);
    end = buffer_.find('\n', used_ + searched);
    if (end != std::string::npos || !more) break;
    searched = buffer_.size() - used_;
    SLUICE_CHECK(searched <= options_.line_bytes, kData,
                 "{}: line {} is longer than {} bytes; is this JSONL?", path.string(), line_ + 1,
                 options_.line_bytes);
  }
  if (used_ == buffer_.size()) return false;
  ++line_;
  end = std::min(end, buffer_.size());
  std::string line;
  replaced_ += utf8::append_valid(std::string_view(buffer_).substr(used_, end - used_), line);
  used_ = std::min(end + 1, buffer_.size());
  document_.clear();
  given_ = 0;
  if (line.find_first_not_of(" \t\r") == std::string::npos) return true;
  const std::string origin = fmt::format("{}: line {}", path.string(), line_);
  Json value = parse_json(line, origin, ErrorKind::kData);
  const auto field = value.is_object() ? value.find(options_.field) : value.end();
  SLUICE_CHECK(value.is_object() && field != value.end(), kData, "{} has no field \"{}\"", origin,
               options_.field);
  SLUICE_CHECK(field->is_string(), kData, "{}: field \"{}\" is no string", origin, options_.field);
  document_ = std::move(field->get_ref<std::string&>());
  return true;
}

void TextSource::emit(std::string_view rest, bool last, bool begins, size_t& taken, TextPiece& piece) {
  const size_t length = piece_length(rest, last, options_.piece_bytes);
  piece.text.clear();
  replaced_ += utf8::append_valid(rest.substr(0, length), piece.text);
  piece.begins_document = begins;
  if (begins) ++documents_;
  piece.document = documents_ - 1;
  taken += length;
}

bool TextSource::next(TextPiece& piece) {
  for (;;) {
    if (given_ < document_.size()) {
      emit(std::string_view(document_).substr(given_), true, given_ == 0, given_, piece);
      return true;
    }
    if (!reader_) {
      if (file_ == files_.size()) return false;
      open_next_file();
    }
    if (lines_) {
      if (take_line()) continue;
    } else {
      fill(options_.piece_bytes);
      if (used_ < buffer_.size()) {
        const bool begins = !begun_;
        begun_ = true;
        emit(std::string_view(buffer_).substr(used_), at_end_, begins, used_, piece);
        return true;
      }
    }
    bytes_before_ += reader_->position();
    reader_.reset();
  }
}

}  // namespace sluice
