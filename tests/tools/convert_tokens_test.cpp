// convert tokens and convert inspect of token files, run as their users do.
#include <sys/stat.h>

#include <cstring>

#include "apps/run_app.h"
#include "core/file.h"
#include "data/llmc_shard.h"
#include "data/token_files.h"
#include "data/token_formats.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const fs::path& path) { return read_text_file(path, ErrorKind::kData); }

class Workplace {
 public:
  fs::path operator/(const std::string& name) const { return directory_ / name; }
  // "@" in the arguments stands for the directory.
  test::AppResult convert(std::string arguments) const {
    for (size_t at; (at = arguments.find('@')) != std::string::npos;)
      arguments.replace(at, 1, directory_.path().string());
    return test::run_app("convert " + arguments, directory_.path());
  }
  void succeeds(const std::string& arguments) const {
    const auto run = convert(arguments);
    INFO(arguments << "\n" << run.output << run.errors);
    REQUIRE(run.exit_code == 0);
  }
  void fails(const std::string& arguments, int code, const std::string& message) const {
    const auto run = convert(arguments);
    INFO(arguments << "\n" << run.output);
    CHECK(run.exit_code == code);
    CHECK_THAT(run.errors, test::contains(message));
  }

 private:
  test::TemporaryDirectory directory_;
};

// Documents of several sequences, an empty one, and modes behind the bounds, as other programs leave them.
void write_megatron(const fs::path& bin, uint8_t dtype, const std::vector<int32_t>& tokens) {
  const std::vector<int32_t> lengths = {3, 0, 4, 1, static_cast<int32_t>(tokens.size()) - 8};
  auto index = test::megatron_index(dtype, lengths, {0, 2, 2, 4, 5});
  index.resize(index.size() + lengths.size(), std::byte{1});
  test::write_bytes(fs::path(bin).replace_extension(".idx"), index);
  if (dtype == 8) return test::write_tokens16(bin, tokens);
  test::write_bytes(bin, std::as_bytes(std::span(tokens)));
}

// A file of `bytes` that takes no room but for what is written into it.
void make_sparse(const fs::path& path, const std::vector<std::pair<int64_t, std::string>>& pieces,
                 int64_t bytes) {
  OutputFile file(path, ErrorKind::kData);
  file.close();
  fs::resize_file(path, static_cast<uintmax_t>(bytes));
  FILE* stream = std::fopen(path.c_str(), "r+b");
  REQUIRE(stream != nullptr);
  for (const auto& [offset, piece] : pieces) {
    REQUIRE(::fseeko(stream, offset, SEEK_SET) == 0);
    REQUIRE(std::fwrite(piece.data(), 1, piece.size(), stream) == piece.size());
  }
  std::fclose(stream);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  REQUIRE(status.st_blocks * 512 < (int64_t{1} << 20));
}

std::string words(const std::vector<int32_t>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int32_t)};
}

}  // namespace

TEST_CASE("Megatron to shards and back gives the same bytes, index and all") {
  const Workplace place;
  for (const uint8_t dtype : {uint8_t{8}, uint8_t{4}}) {
    const std::string name = dtype == 8 ? "narrow" : "wide";
    write_megatron(place / (name + ".bin"), dtype, test::consecutive(1000, dtype == 8 ? 5 : 70000));
    place.succeeds(fmt::format("tokens @/{0} @/{0}-shards/train --shard-tokens 300", name));
    CHECK(fs::exists(place / (name + "-shards/train_000003.bin")));
    CHECK(open_token_file(place / (name + "-shards/train_000000.bin")).type() ==
          (dtype == 8 ? TokenType::kUint16 : TokenType::kUint32));
    place.succeeds(fmt::format("tokens '@/{0}-shards/train_*.bin' @/back/{0}.bin --to megatron", name));
    CHECK(bytes_of(place / ("back/" + name + ".bin")) == bytes_of(place / (name + ".bin")));
    CHECK(bytes_of(place / ("back/" + name + ".idx")) == bytes_of(place / (name + ".idx")));
  }
  // Shards that are not those of the index.
  fs::remove(place / "wide-shards/train_000003.bin");
  place.fails("tokens @/wide-shards @/other.bin --to megatron", 3, "but its index");
  CHECK(!fs::exists(place / "other.bin"));
  CHECK(!fs::exists(place / "other.idx"));
}

TEST_CASE("nanoGPT to shards and back gives the same bytes") {
  const Workplace place;
  test::write_tokens16(place / "train.bin", test::consecutive(65536));
  place.succeeds("tokens @/train.bin @/shards/train --shard-tokens 10000");
  CHECK(open_token_file(place / "shards/train_000006.bin").size() == 5536);
  place.succeeds("tokens @/shards @/back.bin --to bare");
  CHECK(bytes_of(place / "back.bin") == bytes_of(place / "train.bin"));
  // Through Megatron, too, and wider in between.
  place.succeeds("tokens @/shards @/m.bin --to megatron --type wide --document-start 1000");
  CHECK(open_token_file(place / "m.bin").type() == TokenType::kInt32);
  place.succeeds("tokens @/m @/again.bin --to bare");
  CHECK(bytes_of(place / "again.bin") == bytes_of(place / "train.bin"));
}

TEST_CASE("documents of a new Megatron index begin or end where the options say") {
  const Workplace place;
  test::write_shard16(place / "a.bin", {9, 1, 1, 0, 9, 2, 0, 9, 3});
  place.succeeds("tokens @/a.bin @/start.bin --to megatron --document-start 9");
  CHECK(open_token_file(place / "start.bin").document_starts() == std::vector<int64_t>{0, 4, 7});
  place.succeeds("tokens @/a.bin @/end.bin --to megatron --document-end 0");
  CHECK(open_token_file(place / "end.bin").document_starts() == std::vector<int64_t>{0, 4, 7});
  place.succeeds("tokens @/a.bin @/one.bin --to megatron");
  CHECK(open_token_file(place / "one.bin").document_starts() == std::vector<int64_t>{0});
  // A Megatron source keeps its documents.
  place.succeeds("tokens @/end.bin @/copy.bin --to megatron --type wide");
  CHECK(open_token_file(place / "copy.bin").document_starts() == std::vector<int64_t>{0, 4, 7});
  // What Megatron-LM's own writer leaves for [1, 2, 3] and [4, 5].
  test::write_shard16(place / "b.bin", {1, 2, 3, 4, 5});
  place.succeeds("tokens @/b.bin @/two.bin --to megatron --document-start 4");
  test::write_hex(
      place / "expected",
      "4d4d4944494458000001000000000000000802000000000000000300000000000000030000000200000000000000"
      "00000000060000000000000000000000000000000100000000000000"
      "0200000000000000");
  CHECK(bytes_of(place / "two.idx") == bytes_of(place / "expected"));
}

TEST_CASE("convert tokens refuses what it cannot write, and leaves nothing behind") {
  const Workplace place;
  test::write_shard32(place / "a.bin", {1, 70000, 3});
  place.fails("tokens @/a.bin @/b.bin --to bare", 3, "token 1 is 70000, which uint16 cannot hold");
  place.fails("tokens @/a.bin @/b/c --type uint16", 3, "token 1 is 70000");
  place.fails("tokens @/a.bin @/b.bin --to megatron --type uint16", 3, "token 1 is 70000");
  place.fails("tokens @/a.bin @/b.dat --to megatron", 2, "named PREFIX.bin");
  place.fails("tokens @/a.bin @/a.bin --to megatron", 2, "exists");
  place.fails("tokens @/a.bin @/b.bin --to bare --document-end 3", 2, "go with --to megatron");
  place.fails("tokens @/missing @/b.bin", 3, "no such file");
  place.fails("tokens @/a.bin @/b.bin --to parquet", 2, "--to");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(place / "")) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"a.bin", "b", "standard_error.txt"});
  CHECK(fs::is_empty(place / "b"));
}

TEST_CASE("files beyond 4 GiB are read by 64-bit offsets") {
  const Workplace place;
  constexpr int64_t kBytes = int64_t{5} << 30;
  const int64_t tokens = (kBytes - llmc::kHeaderBytes) / 4;
  const auto header = llmc::header(TokenType::kUint32, tokens);
  make_sparse(place / "shard.bin",
              {{0, words({header.begin(), header.end()})}, {kBytes - 12, words({7, 8, 9})}}, kBytes);
  const auto shard = place.convert("inspect @/shard.bin --at -3");
  INFO(shard.output << shard.errors);
  CHECK(shard.exit_code == 0);
  CHECK_THAT(shard.output, test::contains(fmt::format("{} tokens", tokens)));
  CHECK_THAT(shard.output, test::contains(fmt::format("from {}: 7 8 9\n", tokens - 3)));

  // Two documents of Megatron's, the second beginning beyond 4 GiB; lengths are int32, offsets int64.
  const int64_t half = tokens / 2;
  test::write_bytes(
      place / "m.idx",
      test::megatron_index(4, {static_cast<int32_t>(half), static_cast<int32_t>(half)}, {0, 1, 2}));
  make_sparse(place / "m.bin", {{half * 8 - 4, words({11})}}, half * 8);
  const auto megatron = place.convert("inspect @/m --at -1");
  INFO(megatron.output << megatron.errors);
  CHECK(megatron.exit_code == 0);
  CHECK_THAT(megatron.output, test::contains(fmt::format("2 documents\n  from {}: 11\n", 2 * half - 1)));

  make_sparse(place / "bare.bin", {{kBytes - 2, std::string("\x05\0", 2)}}, kBytes);
  const auto bare = place.convert("inspect @/bare.bin --at -1");
  CHECK_THAT(bare.output, test::contains(fmt::format("from {}: 5\n", kBytes / 2 - 1)));
  CHECK(place.convert("inspect @/bare.bin --at 9999999999").exit_code == 2);
}
