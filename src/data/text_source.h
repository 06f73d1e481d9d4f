// Documents from text and JSONL files, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class ByteReader;

struct TextOptions {
  std::string field = "text";  // of each JSONL line
  std::vector<std::string>
      extensions;  // ".h": files of directories are taken only with one of these; empty: all
  size_t piece_bytes = size_t{1} << 20;   // texts come in pieces of at most about this size
  size_t line_bytes = size_t{256} << 20;  // a longer JSONL line is an error
};

// A document or a part of one. Parts end at a line end, else in front of the space of a word, else between
// two characters: where Encoder (tokenizer.h) can go on.
struct TextPiece {
  std::string text;  // valid UTF-8
  bool begins_document = false;
  int64_t document = 0;  // counted from 0 over all files
};

// Every path is a file or a directory; of a directory all files below it in the order of their paths, but
// none whose name begins with a dot, nor any below such a directory. A name ending in .jsonl or .ndjson holds
// one JSON object with the text in `field` a line; every other file is one document. Both may be compressed
// (byte_reader.h). Invalid UTF-8 becomes U+FFFD. Empty documents are left out.
class TextSource {
 public:
  // Error(kData) for a path that does not exist, or when no file is left.
  TextSource(const std::vector<std::filesystem::path>& paths, TextOptions options);
  ~TextSource();

  // False at the end. Error(kData) naming the file, and the line of JSONL, for what cannot be read.
  bool next(TextPiece& piece);

  int64_t bytes_total() const { return bytes_total_; }  // of all files, as they are on disk
  int64_t bytes_read() const;                           // of these, so far
  int64_t documents() const { return documents_; }      // begun so far
  int64_t replaced() const { return replaced_; }        // invalid sequences so far
  const std::vector<std::filesystem::path>& files() const { return files_; }

 private:
  void open_next_file();
  bool fill(size_t wanted);
  bool take_line();
  void emit(std::string_view rest, bool last, bool begins, size_t& taken, TextPiece& piece);

  TextOptions options_;
  std::vector<std::filesystem::path> files_;
  int64_t bytes_total_ = 0, bytes_before_ = 0;  // the latter: of files that are done
  int64_t documents_ = 0, replaced_ = 0;

  size_t file_ = 0;  // the next one to open
  std::unique_ptr<ByteReader> reader_;
  bool lines_ = false;   // the open file is JSONL
  bool at_end_ = false;  // all of the open file is in buffer_
  bool begun_ = false;   // a piece of the open text file has been given
  int64_t line_ = 0;     // number of the JSONL line in document_, from 1
  std::string buffer_;   // read and not yet taken, from used_ on
  size_t used_ = 0;
  std::string document_;  // text of a JSONL line, given up to given_
  size_t given_ = 0;
};

}  // namespace sluice
