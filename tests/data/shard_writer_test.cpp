#include "data/shard_writer.h"

#include "data/token_files.h"
#include "data/token_stream.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

size_t entries(const std::filesystem::path& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

}  // namespace

TEST_CASE("shards hold what was appended, whatever the portions") {
  for (const int64_t vocabulary : {65536, 65537}) {
    for (const size_t portion : {1, 3, 10, 100}) {
      const test::TemporaryDirectory directory;
      const auto tokens = test::consecutive(25, static_cast<int32_t>(vocabulary) - 25);
      ShardWriter writer(directory / "new", "train", vocabulary, 10);
      for (size_t at = 0; at < tokens.size(); at += portion) {
        writer.append(std::span(tokens).subspan(at, std::min(portion, tokens.size() - at)));
      }
      CHECK(writer.tokens() == 25);
      const auto shards = writer.finish();
      REQUIRE(shards.size() == 3);
      CHECK(shards[2].name == "train_000002.bin");
      CHECK(shards[2].tokens == 5);
      CHECK(entries(directory / "new") == 3);
      const TokenStream stream((directory / "new").string());
      CHECK(stream.files()[0].format() == (vocabulary == 65536 ? "llm.c v1 (uint16)" : "llm.c v7 (uint32)"));
      std::vector<int32_t> read(25);
      stream.read(0, read);
      CHECK(read == tokens);
    }
  }
}

TEST_CASE("a full last shard is not followed by an empty one, and no tokens make no shard") {
  const test::TemporaryDirectory directory;
  ShardWriter full(directory.path(), "full", 100, 5);
  full.append(test::consecutive(10));
  CHECK(full.finish().size() == 2);
  CHECK(ShardWriter(directory.path(), "none", 100, 5).finish().empty());
  CHECK(entries(directory.path()) == 2);
}

TEST_CASE("shards that are not finished leave nothing") {
  const test::TemporaryDirectory directory;
  {
    ShardWriter writer(directory.path(), "train", 100, 4);
    writer.append(test::consecutive(10));
    CHECK(entries(directory.path()) == 3);
  }
  CHECK(entries(directory.path()) == 0);
}

TEST_CASE("shards of an earlier set are not mixed with new ones") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "train_000007.bin", {1});
  CHECK_THAT(test::error_of([&] { ShardWriter(directory.path(), "train", 100, 5); }),
             test::contains("2 " + (directory / "train_000007.bin").string()));
  CHECK(test::error_of([&] { ShardWriter(directory.path(), "validation", 100, 5); }) == "no error");
  CHECK_THAT(test::error_of([&] { ShardWriter(directory.path(), "x", 100, 0); }),
             test::contains("2 0 tokens a shard"));
}
