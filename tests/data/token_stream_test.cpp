#include "data/token_stream.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include "core/random.h"
#include "data/loader.h"
#include "data/token_files.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

TEST_CASE("any range of a stream crosses files and formats") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", test::consecutive(7, 0));
  test::write_shard32(directory / "b.bin", test::consecutive(1, 7));
  test::write_tokens16(directory / "c.bin", test::consecutive(5, 8));
  const TokenStream stream(directory.path().string());
  REQUIRE(stream.size() == 13);
  for (int64_t first = 0; first <= 13; ++first) {
    for (int64_t count = 0; first + count <= 13; ++count) {
      std::vector<int32_t> out(static_cast<size_t>(count));
      stream.read(first, out);
      REQUIRE(out == test::consecutive(count, static_cast<int32_t>(first)));
    }
  }
  std::vector<int32_t> out(2);
  CHECK_THROWS_AS(stream.read(12, out), Error);
  CHECK_THROWS_AS(stream.read(-1, out), Error);
}

TEST_CASE("documents are marked across files") {
  const test::TemporaryDirectory directory;
  test::write_bytes(directory / "a.idx", test::megatron_index(8, {2, 1}, {0, 1, 2}));
  test::write_tokens16(directory / "a.bin", {1, 2, 3});
  test::write_bytes(directory / "b.idx", test::megatron_index(8, {1, 3}, {0, 1, 2}));
  test::write_tokens16(directory / "b.bin", {4, 5, 6, 7});
  const TokenStream stream(directory.path().string());
  std::vector<int32_t> flags(6, 0);
  stream.mark_documents(1, flags);
  CHECK(flags == std::vector<int32_t>{0, 1, 1, 1, 0, 0});
}

TEST_CASE("more files than descriptors held") {
  const test::TemporaryDirectory directory;
  const int64_t files = static_cast<int64_t>(TokenStream::kMaximumOpen) + 10;
  for (int64_t i = 0; i < files; ++i) {
    test::write_shard16(directory / fmt::format("s{:04}.bin", i),
                        test::consecutive(2, static_cast<int32_t>(2 * i)));
  }
  const TokenStream stream(directory.path().string());
  for (int round = 0; round < 2; ++round) {
    for (int64_t i = 0; i < stream.size(); ++i) {
      std::vector<int32_t> out(1);
      stream.read(i, out);
      REQUIRE(out[0] == i);
    }
    size_t open = 0;
    for (const TokenFile& file : stream.files()) open += file.is_open() ? 1 : 0;
    CHECK(open == TokenStream::kMaximumOpen);
  }
}

TEST_CASE("the parts of a vocabulary check cover every token once") {
  const test::TemporaryDirectory directory;
  for (int64_t bad = 0; bad < 11; ++bad) {
    std::vector<int32_t> tokens(11, 1);
    tokens[static_cast<size_t>(bad)] = 9;
    test::write_shard16(directory / "a.bin", tokens);
    const TokenStream stream(directory.path().string());
    for (const int64_t parts : {1, 2, 3, 16}) {
      int64_t refused = 0;
      for (int64_t part = 0; part < parts; ++part) {
        refused += test::error_of([&] { stream.check_vocabulary(9, part, parts); }) != "no error";
      }
      REQUIRE(refused == 1);
    }
  }
}

TEST_CASE("a sparse shard of 4 GiB and streams beyond 2^31 tokens are read at any position") {
  const test::TemporaryDirectory directory;
  const int64_t tokens = (int64_t{1} << 31) - 1;
  const auto header = test::shard_header(20240520, 1, static_cast<int32_t>(tokens));
  for (const char* name : {"a.bin", "b.bin"}) {
    test::write_bytes(directory / name, header);
    REQUIRE(::truncate((directory / name).c_str(), 1024 + 2 * tokens) == 0);
  }
  // Marks written at 64-bit offsets by hand; everything between reads as zero.
  const std::vector<int64_t> marks = {0, 1, (int64_t{1} << 30) - 1, int64_t{1} << 30, 2000000000, tokens - 1};
  for (const char* name : {"a.bin", "b.bin"}) {
    const int descriptor = ::open((directory / name).c_str(), O_WRONLY);
    for (size_t i = 0; i < marks.size(); ++i) {
      const auto value = static_cast<uint16_t>(100 * (name[0] - 'a') + static_cast<int>(i) + 1);
      REQUIRE(::pwrite(descriptor, &value, 2, 1024 + 2 * marks[i]) == 2);
    }
    ::close(descriptor);
  }
  const TokenStream stream(directory.path().string());
  REQUIRE(stream.size() == 2 * tokens);
  std::vector<int32_t> out(3);
  for (int64_t file = 0; file < 2; ++file) {
    for (size_t i = 0; i < marks.size(); ++i) {
      const int64_t first = std::max<int64_t>(0, std::min(file * tokens + marks[i] - 1, stream.size() - 3));
      stream.read(first, out);
      for (int64_t k = 0; k < 3; ++k) {
        int32_t expected = 0;
        for (size_t m = 0; m < 2 * marks.size(); ++m) {
          const auto owner = static_cast<int64_t>(m / marks.size());
          if (owner * tokens + marks[m % marks.size()] == first + k) {
            expected = static_cast<int32_t>(100 * owner + static_cast<int64_t>(m % marks.size()) + 1);
          }
        }
        REQUIRE(out[static_cast<size_t>(k)] == expected);
      }
    }
  }
}

TEST_CASE("a sparse file of 5 GiB is trained on at any position") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "bare.bin";
  const int64_t bytes = int64_t{5} << 30, tokens = bytes / 2;
  test::write_bytes(path, {});
  REQUIRE(::truncate(path.c_str(), bytes) == 0);
  LoaderOptions options;
  options.sources = {{path.string()}};
  options.sequence_length = 1000;
  options.vocabulary_size = 65536;  // no token can be outside, so nothing is scanned
  Loader loader(options);
  REQUIRE(loader.tokens() == tokens);
  REQUIRE(loader.sequences_per_epoch() == (tokens - 1) / 1000);
  // Find where a few samples lie, mark their first and last labels, and read them again.
  const int descriptor = ::open(path.c_str(), O_WRONLY);
  int64_t beyond = 0;
  for (int64_t cursor = 0; cursor < 40; ++cursor) {
    loader.seek(cursor);
    const int64_t first = 1000 * loader.next().sample_ids[0];
    beyond += 2 * first > int64_t{1} << 32 ? 1 : 0;
    for (const int64_t offset : {0, 1000}) {
      const auto value = static_cast<uint16_t>(1 + cursor + offset);
      REQUIRE(::pwrite(descriptor, &value, 2, 2 * (first + offset)) == 2);
    }
    loader.seek(cursor);
    const Batch batch = loader.next();
    REQUIRE(batch.tokens.front() == 1 + cursor);
    REQUIRE(batch.labels.back() == 1001 + cursor);
    REQUIRE(batch.tokens[500] == 0);
  }
  ::close(descriptor);
  CHECK(beyond > 0);
}
