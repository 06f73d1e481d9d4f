#include "data/byte_reader.h"

#include "core/random.h"
#include "data/compressed.h"
#include "data/token_files.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

struct Kind {
  const char* name;
  std::string (*compress)(std::string_view);
};
const Kind kKinds[] = {{"a.gz", test::gzip}, {"a.xz", test::xz}, {"a.zst", test::zstd}};

std::string read_all(const std::filesystem::path& path, size_t step = 1000) {
  const auto reader = open_bytes(path);
  std::string text, buffer(step, '\0');
  for (size_t got = step; got == step;) {
    got = reader->read(buffer);
    text.append(buffer, 0, got);
  }
  CHECK(reader->position() == static_cast<int64_t>(std::filesystem::file_size(path)));
  return text;
}

// Half of it compresses well, half not at all; larger than the readers' buffers.
std::string sample(size_t size) {
  const Philox random(1);
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    text += i / 1000 % 2 == 0 ? static_cast<char>('a' + i % 7) : static_cast<char>(random.bits64(i));
  }
  return text;
}

void put(const std::filesystem::path& path, std::string_view bytes) {
  test::write_bytes(path, std::as_bytes(std::span(bytes)));
}

}  // namespace

TEST_CASE("compressed files give back their text, whatever the size of the reads") {
  const test::TemporaryDirectory directory;
  const std::string text = sample(700000);
  put(directory / "plain.txt", text);
  CHECK(read_all(directory / "plain.txt") == text);
  for (const Kind& kind : kKinds) {
    put(directory / kind.name, kind.compress(text));
    CHECK(read_all(directory / kind.name, 100) == text);
    CHECK(read_all(directory / kind.name, 1 << 20) == text);
    put(directory / kind.name, kind.compress(""));
    CHECK(read_all(directory / kind.name).empty());
  }
}

TEST_CASE("streams one behind the other are one text") {
  const test::TemporaryDirectory directory;
  for (const Kind& kind : kKinds) {
    put(directory / kind.name, kind.compress("one ") + kind.compress("") + kind.compress("two"));
    CHECK(read_all(directory / kind.name) == "one two");
  }
}

TEST_CASE("a cut compressed file is refused at any length") {
  const test::TemporaryDirectory directory;
  for (const Kind& kind : kKinds) {
    const std::string whole = kind.compress(sample(3000));
    const auto path = directory / kind.name;
    for (size_t size = 0; size < whole.size(); size += size < 64 || size + 64 > whole.size() ? 1 : 41) {
      put(path, std::string_view(whole).substr(0, size));
      const std::string message = test::error_of([&] { read_all(path); });
      REQUIRE(message.starts_with("3 " + path.string() + ": "));
    }
  }
}

TEST_CASE("a damaged compressed file is refused") {
  const test::TemporaryDirectory directory;
  const std::string text = sample(3000);
  for (const Kind& kind : kKinds) {
    const std::string whole = kind.compress(text);
    const auto path = directory / kind.name;
    for (size_t at = whole.size() / 4; at < whole.size(); at += 97) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      put(path, damaged);
      REQUIRE(test::error_of([&] { read_all(path); }).starts_with("3 " + path.string() + ": "));
    }
    put(path, "no compressed data at all");
    CHECK(test::error_of([&] { read_all(path); }).starts_with("3 " + path.string() + ": "));
  }
}

TEST_CASE("the ending that says how a file is compressed can be taken off") {
  CHECK(without_compression("x/a.jsonl.gz") == "x/a.jsonl");
  CHECK(without_compression("a.txt") == "a.txt");
}
