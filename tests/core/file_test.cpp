#include "core/file.h"

#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

TEST_CASE("reading past the end names the file and the byte") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "a", "abc", ErrorKind::kData);
  const InputFile file(directory / "a", ErrorKind::kData);
  char buffer[4];
  CHECK_THROWS_WITH(file.read_at(1, std::span<char>(buffer)), test::contains("/a: ends at byte 3"));
}

TEST_CASE("errors carry the kind the caller gave") {
  try {
    InputFile("/nonexistent/file", ErrorKind::kCheckpoint);
    FAIL("opened a file that is not there");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    CHECK(std::string(error.what()).find("/nonexistent/file") != std::string::npos);
  }
}

TEST_CASE("an atomic write replaces the file and leaves nothing else") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "a", "one", ErrorKind::kData);
  write_file_atomically(directory / "a", "two", ErrorKind::kData);
  CHECK(read_text_file(directory / "a", ErrorKind::kData) == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
}

TEST_CASE("a failed write is an error, not a short file") {
  if (!std::filesystem::exists("/dev/full")) return;
  OutputFile file("/dev/full", ErrorKind::kCheckpoint);
  CHECK_THROWS_WITH(file.write("x"), test::contains("No space left"));
}

TEST_CASE("append continues, write_at overwrites") {
  const test::TemporaryDirectory directory;
  OutputFile(directory / "a", ErrorKind::kData).write("hello");
  OutputFile file(directory / "a", ErrorKind::kData, OutputFile::Mode::kAppend);
  CHECK(file.size() == 5);
  file.write(" world");
  file.write_at(0, std::as_bytes(std::span("J", 1)));
  file.close();
  CHECK(read_text_file(directory / "a", ErrorKind::kData) == "Jello world");
}
