#include "data/text_source.h"

#include "core/file.h"
#include "data/compressed.h"
#include "data/token_files.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

using Texts = std::vector<std::string>;

void put(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  OutputFile(path, ErrorKind::kData).write(text);
}

Texts documents(const std::vector<std::filesystem::path>& paths, TextOptions options = {}) {
  TextSource source(paths, options);
  Texts result;
  TextPiece piece;
  while (source.next(piece)) {
    if (piece.begins_document) result.emplace_back();
    CHECK(piece.document == static_cast<int64_t>(result.size()) - 1);
    CHECK_FALSE(piece.text.empty());
    result.back() += piece.text;
  }
  CHECK(source.documents() == static_cast<int64_t>(result.size()));
  CHECK(source.bytes_read() == source.bytes_total());
  return result;
}

Texts pieces(const std::filesystem::path& path, size_t piece_bytes) {
  TextOptions options;
  options.piece_bytes = piece_bytes;
  TextSource source({path}, options);
  Texts result;
  TextPiece piece;
  while (source.next(piece)) result.push_back(piece.text);
  return result;
}

}  // namespace

TEST_CASE("files and directories give a document a file, sorted, dot files left out") {
  const test::TemporaryDirectory directory;
  put(directory / "b.txt", "second\n");
  put(directory / "a/z.h", "first");
  put(directory / "c.hpp", "third");
  put(directory / "empty.txt", "");
  put(directory / ".git/x.txt", "hidden");
  put(directory / ".hidden.txt", "hidden");
  CHECK(documents({directory.path()}) == Texts{"first", "second\n", "third"});
  TextOptions options;
  options.extensions = {".h", ".hpp"};
  CHECK(documents({directory.path()}, options) == Texts{"first", "third"});
  CHECK(documents({directory / "c.hpp", directory / "b.txt"}) == Texts{"third", "second\n"});
}

TEST_CASE("JSONL gives a document a line") {
  const test::TemporaryDirectory directory;
  const std::string lines =
      "{\"text\": \"one\\nline\", \"n\": 1}\n\n{\"id\": 3, \"text\": \"\"}\r\n{\"text\": \"\\u00e9\", "
      "\"body\": \"b\"}";
  put(directory / "a.jsonl", lines);
  CHECK(documents({directory / "a.jsonl"}) == Texts{"one\nline", "\xC3\xA9"});
  put(directory / "b.ndjson", "{\"body\": \"b\"}\n");
  TextOptions options;
  options.field = "body";
  CHECK(documents({directory / "b.ndjson"}, options) == Texts{"b"});
}

TEST_CASE("compressed text is the text") {
  const test::TemporaryDirectory directory;
  std::string lines;
  for (int i = 0; i < 500; ++i) lines += fmt::format("{{\"text\": \"document {}\"}}\n", i);
  put(directory / "a.jsonl", lines);
  const Texts plain = documents({directory / "a.jsonl"});
  REQUIRE(plain.size() == 500);
  put(directory / "a.jsonl.gz", test::gzip(lines));
  put(directory / "a.jsonl.xz", test::xz(lines));
  put(directory / "a.jsonl.zst", test::zstd(lines));
  for (const char* name : {"a.jsonl.gz", "a.jsonl.xz", "a.jsonl.zst"})
    CHECK(documents({directory / name}) == plain);
}

TEST_CASE("long documents come in pieces that end where encoding can go on") {
  const test::TemporaryDirectory directory;
  put(directory / "lines.txt", "0123456789\nabcdefgh\n\nxyz");
  CHECK(pieces(directory / "lines.txt", 16) == Texts{"0123456789\n", "abcdefgh\n\nxyz"});
  put(directory / "words.txt", "one two  three four five");
  CHECK(pieces(directory / "words.txt", 16) == Texts{"one two  three", " four five"});
  put(directory / "long.txt", "0123456789abcd\xE4\xB8\xAD\xE4\xB8\xAD");
  CHECK(pieces(directory / "long.txt", 16) == Texts{"0123456789abcd", "\xE4\xB8\xAD\xE4\xB8\xAD"});
  put(directory / "spaces.txt", std::string(40, ' '));
  CHECK(pieces(directory / "spaces.txt", 16) ==
        Texts{std::string(16, ' '), std::string(16, ' '), std::string(8, ' ')});
  put(directory / "one.jsonl", "{\"text\": \"0123456789\\nabcdefgh\\n\\nxyz\"}\n");
  CHECK(pieces(directory / "one.jsonl", 16) == Texts{"0123456789\n", "abcdefgh\n\nxyz"});
}

TEST_CASE("pieces of any size add up to the document") {
  const test::TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += i % 17 == 0 ? "\n" : i % 5 == 0 ? "  " : i % 7 == 0 ? "\xC3\xA9" : "x";
  put(directory / "a.txt", text);
  for (const size_t bytes : {16, 17, 64, 1000, 10000}) {
    std::string joined;
    for (const std::string& piece : pieces(directory / "a.txt", bytes)) {
      REQUIRE(piece.size() <= bytes);
      joined += piece;
    }
    REQUIRE(joined == text);
  }
}

TEST_CASE("invalid UTF-8 is replaced and counted") {
  const test::TemporaryDirectory directory;
  put(directory / "a.txt", "a\xFFz\xC3");
  put(directory / "b.jsonl", "{\"text\": \"\x80\"}\n");
  TextSource source({directory.path()}, {});
  TextPiece piece;
  REQUIRE(source.next(piece));
  CHECK(piece.text == "a\xEF\xBF\xBDz\xEF\xBF\xBD");
  REQUIRE(source.next(piece));
  CHECK(piece.text == "\xEF\xBF\xBD");
  CHECK(source.replaced() == 3);
}

TEST_CASE("text that cannot be read is refused with the file and the line") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.jsonl";
  const auto message = [&](std::string_view content) {
    put(path, content);
    return test::error_of([&] { documents({path}); });
  };
  const std::string origin = "3 " + path.string() + ": line 2";
  CHECK_THAT(message("{\"text\": \"a\"}\n{\"text\": \n"), test::contains(origin));
  CHECK_THAT(message("{\"text\": \"a\"}\n[1]\n"), test::contains(origin + " has no field \"text\""));
  CHECK_THAT(message("{\"text\": \"a\"}\n{\"txt\": \"a\"}\n"),
             test::contains(origin + " has no field \"text\""));
  CHECK_THAT(message("{\"text\": \"a\"}\n{\"text\": 3}\n"),
             test::contains(origin + ": field \"text\" is no string"));
  put(path, "{\"text\": \"" + std::string(5000, 'x') + "\"}\n");
  TextOptions options;
  options.piece_bytes = 100;
  options.line_bytes = 1000;
  CHECK_THAT(test::error_of([&] { documents({path}, options); }),
             test::contains("line 1 is longer than 1000 bytes"));
  CHECK_THAT(test::error_of([&] { documents({directory / "missing.txt"}); }),
             test::contains("3 " + (directory / "missing.txt").string()));
  std::filesystem::create_directory(directory / "none");
  CHECK_THAT(test::error_of([&] { documents({directory / "none"}); }), test::contains("no text files"));
  put(directory / "cut.txt.gz", test::gzip("hello").substr(0, 12));
  CHECK_THAT(test::error_of([&] { documents({directory / "cut.txt.gz"}); }),
             test::contains("3 " + (directory / "cut.txt.gz").string()));
}
