#include <cstring>

#include "core/file.h"
#include "data/llmc_shard.h"
#include "data/token_files.h"
#include "data/token_formats.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;
using test::error_of;

namespace {

std::vector<int32_t> read_all(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.size()));
  file.read(0, tokens);
  return tokens;
}

std::string padded(std::string head, std::string tail) {
  head.resize(2 * 1024, '0');
  return head + tail;
}

// Two documents [1, 2, 3] and [4, 5] as Megatron-LM's own writer leaves them.
constexpr const char* kIndexHex =
    "4d4d4944494458000001000000000000000802000000000000000300000000000000030000000200000000000000000000000600"
    "000000000000000000000000000001000000000000000200000000000000";
constexpr const char* kTokensHex = "01000200030004000500";

void put(std::vector<std::byte>& bytes, size_t at, auto value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

std::string open_error(const std::filesystem::path& path) {
  return error_of([&] { open_token_file(path); });
}

}  // namespace

TEST_CASE("llm.c shards are read from their published bytes") {
  const test::TemporaryDirectory directory;
  test::write_hex(directory / "v1.bin", padded("88d834010100000003000000", "0100ffff0300"));
  const TokenFile narrow = open_token_file(directory / "v1.bin");
  CHECK(narrow.format() == "llm.c v1 (uint16)");
  CHECK(read_all(narrow) == std::vector<int32_t>{1, 65535, 3});
  test::write_hex(directory / "v7.bin", padded("a1d934010700000003000000", "010000000000010003000000"));
  const TokenFile wide = open_token_file(directory / "v7.bin");
  CHECK(wide.format() == "llm.c v7 (uint32)");
  CHECK(read_all(wide) == std::vector<int32_t>{1, 65536, 3});
  std::vector<int32_t> middle(2);
  wide.read(1, middle);
  CHECK(middle == std::vector<int32_t>{65536, 3});
}

TEST_CASE("the header that is written is the published one") {
  const auto narrow = llmc::header(TokenType::kUint16, 3), wide = llmc::header(TokenType::kUint32, 3);
  CHECK(std::memcmp(narrow.data(), "\x88\xd8\x34\x01\x01\0\0\0\x03\0\0\0", 12) == 0);
  CHECK(std::memcmp(wide.data(), "\xa1\xd9\x34\x01\x07\0\0\0\x03\0\0\0", 12) == 0);
  CHECK_THROWS_AS(llmc::header(TokenType::kUint16, 0), Error);
  CHECK_THROWS_AS(llmc::header(TokenType::kUint16, int64_t{1} << 31), Error);
}

TEST_CASE("a damaged llm.c shard is refused with what is wrong") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.bin";
  const auto message = [&](int32_t magic, int32_t version, int32_t count, int64_t data_bytes) {
    auto bytes = test::shard_header(magic, version, count);
    bytes.resize(bytes.size() + static_cast<size_t>(data_bytes));
    test::write_bytes(path, bytes);
    return open_error(path);
  };
  CHECK(message(20240520, 1, 3, 6) == "no error");
  CHECK_THAT(message(20240520, 1, 3, 5), test::contains("3 " + path.string() + ": 1029 bytes"));
  CHECK_THAT(message(20240520, 1, 3, 5), test::contains("the file is cut"));
  CHECK_THAT(message(20240520, 1, 3, 7), test::contains("longer than its header says"));
  CHECK_THAT(message(20240520, 7, 3, 12), test::contains("version 7 of a shard with magic 20240520"));
  CHECK_THAT(message(20240801, 1, 3, 12), test::contains("expected 7"));
  CHECK_THAT(message(20240520, 1, 0, 0), test::contains("counts 0 tokens"));
  CHECK_THAT(message(20240520, 1, -5, 0), test::contains("counts -5 tokens"));
  CHECK_THAT(message(20240521, 1, 3, 6), test::contains("magic 20240521"));
  CHECK_THAT(message(static_cast<int32_t>(0x88d83401), 1 << 24, 3 << 24, 6), test::contains("byte order"));
  CHECK_THAT(message(20240522, 1, 3, 6), test::contains("evaluation set"));
  CHECK_THAT(message(20240326, 3, 3, 6), test::contains("model checkpoint"));
  test::write_hex(path, "88d8340101000000");
  CHECK_THAT(open_error(path), test::contains("8 bytes are less than the 1024"));
  CHECK_THAT(open_error(directory / "missing.bin"),
             test::contains("3 " + (directory / "missing.bin").string()));
}

TEST_CASE("a Megatron dataset is read from its published bytes") {
  const test::TemporaryDirectory directory;
  test::write_hex(directory / "p.idx", kIndexHex);
  test::write_hex(directory / "p.bin", kTokensHex);
  const TokenFile file = open_token_file(directory / "p.bin");
  CHECK(file.format() == "Megatron (uint16)");
  CHECK(read_all(file) == std::vector<int32_t>{1, 2, 3, 4, 5});
  CHECK(file.document_starts() == std::vector<int64_t>{0, 3});
  std::vector<int32_t> flags(3, 0);
  file.mark_documents(1, flags);
  CHECK(flags == std::vector<int32_t>{0, 0, 1});
}

TEST_CASE("Megatron documents may hold several sequences, or none") {
  const test::TemporaryDirectory directory;
  // Documents: sequences 0 and 1; none; sequence 2, which is empty, and 3; none.
  test::write_bytes(directory / "p.idx", test::megatron_index(8, {2, 1, 0, 2}, {0, 2, 2, 4, 4}));
  test::write_tokens16(directory / "p.bin", {10, 11, 12, 13, 14});
  CHECK(open_token_file(directory / "p.bin").document_starts() == std::vector<int64_t>{0, 3});
  auto with_modes = test::megatron_index(8, {2, 1, 0, 2}, {0, 2, 2, 4, 4});
  with_modes.resize(with_modes.size() + 4);
  test::write_bytes(directory / "p.idx", with_modes);
  CHECK(open_token_file(directory / "p.bin").size() == 5);
}

TEST_CASE("Megatron tokens of four bytes are read") {
  const test::TemporaryDirectory directory;
  test::write_bytes(directory / "p.idx", test::megatron_index(4, {1, 2}, {0, 1, 2}));
  test::write_hex(directory / "p.bin", "01000000a0860100ffffff7f");
  CHECK(read_all(open_token_file(directory / "p.bin")) == std::vector<int32_t>{1, 100000, 2147483647});
}

TEST_CASE("a damaged Megatron dataset is refused with what is wrong") {
  const test::TemporaryDirectory directory;
  test::write_tokens16(directory / "p.bin", {1, 2, 3, 4, 5});
  const auto good = test::megatron_index(8, {3, 2}, {0, 1, 2});
  const auto message = [&](std::vector<std::byte> index) {
    test::write_bytes(directory / "p.idx", index);
    return open_error(directory / "p.bin");
  };
  const auto changed = [&](size_t at, auto value) {
    auto index = good;
    put(index, at, value);
    return message(index);
  };
  CHECK(message(good) == "no error");
  CHECK_THAT(changed(0, 'X'), test::contains("3 " + (directory / "p.idx").string() + ": wrong magic"));
  CHECK_THAT(changed(9, uint64_t{2}), test::contains("index version 2"));
  for (const uint8_t dtype : {0, 1, 2, 3, 5, 6, 7, 9})
    CHECK_THAT(changed(17, dtype), test::contains("token type"));
  CHECK_THAT(changed(18, uint64_t{3}), test::contains("3 sequences and 3 document bounds need"));
  CHECK_THAT(changed(18, ~uint64_t{0}), test::contains("cannot hold"));
  CHECK_THAT(changed(18, uint64_t{0}), test::contains("counts 0 sequences"));
  CHECK_THAT(changed(26, uint64_t{1}), test::contains("cannot hold"));
  CHECK_THAT(changed(34, int32_t{-1}), test::contains("sequence 0 has length -1"));
  CHECK_THAT(changed(34, int32_t{4}), test::contains("sequence 1 begins at byte 6"));
  CHECK_THAT(changed(38, int32_t{3}), test::contains("10 bytes, but its index"));
  CHECK_THAT(changed(42, int64_t{2}), test::contains("sequence 0 begins at byte 2"));
  CHECK_THAT(changed(58, int64_t{1}), test::contains("the first document begins at sequence 1"));
  CHECK_THAT(changed(66, int64_t{-1}), test::contains("document bound 1 is sequence -1"));
  CHECK_THAT(changed(66, int64_t{3}), test::contains("document bound 1 is sequence 3"));
  CHECK_THAT(changed(74, int64_t{1}), test::contains("document bound 2 is sequence 1"));
  CHECK_THAT(changed(74, int64_t{3}), test::contains("document bound 2 is sequence 3"));
  CHECK_THAT(message({good.begin(), good.end() - 1}), test::contains("81 bytes"));
  CHECK_THAT(message({good.begin(), good.begin() + 20}), test::contains("20 bytes are less than the 34"));
  CHECK_THAT(message(test::megatron_index(8, {0, 0}, {0, 1, 2})), test::contains("holds no tokens"));
}

TEST_CASE("every truncation and every flipped bit of an index is refused") {
  const test::TemporaryDirectory directory;
  test::write_tokens16(directory / "p.bin", {1, 2, 3, 4, 5});
  const auto good = test::megatron_index(8, {3, 2}, {0, 1, 2});
  for (size_t size = 0; size < good.size(); ++size) {
    test::write_bytes(directory / "p.idx", std::span(good).first(size));
    REQUIRE(open_error(directory / "p.bin").starts_with("3 "));
  }
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    auto index = good;
    index[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    test::write_bytes(directory / "p.idx", index);
    // The lowest bit of the second bound moves it from 1 to 0: another dataset, but a valid one.
    const bool valid = bit == 8 * 66;
    REQUIRE(open_error(directory / "p.bin").starts_with(valid ? "no error" : "3 "));
  }
}

TEST_CASE("a file without a header is bare uint16") {
  const test::TemporaryDirectory directory;
  test::write_tokens16(directory / "train.bin", {7, 8, 50256});
  const TokenFile file = open_token_file(directory / "train.bin");
  CHECK(file.format() == "bare uint16");
  CHECK(read_all(file) == std::vector<int32_t>{7, 8, 50256});
  test::write_hex(directory / "odd.bin", "010203");
  CHECK_THAT(open_error(directory / "odd.bin"), test::contains("3 bytes are no whole number"));
  test::write_hex(directory / "empty.bin", "");
  CHECK_THAT(open_error(directory / "empty.bin"), test::contains("is empty"));
  test::write_hex(directory / "z.bin", "1f8b0800");
  CHECK_THAT(open_error(directory / "z.bin"), test::contains("is a gzip file"));
}

TEST_CASE("a token outside the vocabulary is named with its position") {
  const test::TemporaryDirectory directory;
  std::vector<int32_t> tokens = test::consecutive(60000);
  tokens[12345] = 65000;
  test::write_shard16(directory / "a.bin", tokens);
  const TokenFile file = open_token_file(directory / "a.bin");
  CHECK(file.check_vocabulary(65001, 0, file.size()) == 60000);
  CHECK(file.check_vocabulary(65536, 0, file.size()) == 0);  // no need to look
  CHECK(file.check_vocabulary(12345, 0, 12345) == 12345);
  CHECK_THAT(error_of([&] { file.check_vocabulary(65000, 0, file.size()); }),
             test::contains("3 " + (directory / "a.bin").string() +
                            ": token 12345 has id 65000, but the vocabulary has 65000 ids"));
}

TEST_CASE("a wide token that is no id is refused when read and when checked") {
  const test::TemporaryDirectory directory;
  test::write_shard32(directory / "a.bin", {1, 2, -3, 4});
  const TokenFile file = open_token_file(directory / "a.bin");
  std::vector<int32_t> out(2);
  file.read(0, out);
  CHECK_THAT(error_of([&] { file.read(1, out); }), test::contains("token 2 is 0xfffffffd"));
  CHECK_THAT(error_of([&] { file.check_vocabulary(int64_t{1} << 31, 0, 4); }),
             test::contains("token 2 has id 4294967293"));
}

TEST_CASE("sources are files, directories, patterns and Megatron prefixes, sorted") {
  const test::TemporaryDirectory directory;
  for (const char* name : {"b_1.bin", "a_0.bin", "b_0.bin"}) test::write_shard16(directory / name, {1});
  test::write_hex(directory / "m.idx", kIndexHex);
  test::write_hex(directory / "m.bin", kTokensHex);
  test::write_hex(directory / "notes.txt", "00");
  const auto names = [&](const std::string& source) {
    std::vector<std::string> result;
    for (const auto& path : expand_sources(source)) result.push_back(path.filename().string());
    return result;
  };
  using Names = std::vector<std::string>;
  CHECK(names((directory / "b_1.bin").string()) == Names{"b_1.bin"});
  CHECK(names(directory.path().string()) == Names{"a_0.bin", "b_0.bin", "b_1.bin", "m.bin"});
  CHECK(names((directory / "b_*.bin").string()) == Names{"b_0.bin", "b_1.bin"});
  CHECK(names((directory / "m").string()) == Names{"m.bin"});
  CHECK(names((directory / "m*").string()) == Names{"m.bin"});
  CHECK(names((directory / "m.idx").string()) == Names{"m.bin"});
  CHECK_THAT(error_of([&] { expand_sources((directory / "c_*.bin").string()); }),
             test::contains("3 " + (directory / "c_*.bin").string() + ": no such file"));
  std::filesystem::create_directory(directory / "none");
  CHECK_THAT(error_of([&] { expand_sources((directory / "none").string()); }),
             test::contains("no *.bin file"));
}
