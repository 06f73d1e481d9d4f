#include <fmt/core.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/json.h"
#include "core/file.h"
#include "core/random.h"
#include "core/sha256.h"
#include "data/compressed.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

namespace fs = std::filesystem;

struct Result {
  int code;
  std::string out, err;
};

// `before` goes in front of the program: limits, variables.
Result run(const std::string& arguments, const std::string& before = "") {
  static const test::TemporaryDirectory directory;
  const std::string out = (directory / "out").string(), err = (directory / "err").string();
  const std::string command =
      fmt::format("{} {}/tokenize {} >{} 2>{}", before, SLUICE_BINARY_DIR, arguments, out, err);
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text_file(out, ErrorKind::kData),
          read_text_file(err, ErrorKind::kData)};
}

void put(const fs::path& path, std::string_view text) { OutputFile(path, ErrorKind::kData).write(text); }

std::string text_of(uint64_t seed, int lines) {
  static const char* const kWords[] = {"gate", "gates",  "water",       "river",       "the",
                                       "a",    "of",     "flow",        "flowing",     "sluice",
                                       "\tif", "(x) {}", "caf\xC3\xA9", "\xE4\xB8\xAD"};
  const Philox random(seed);
  std::string text;
  uint64_t at = 0;
  for (int line = 0; line < lines; ++line) {
    for (uint64_t i = random.bits64(at++) % 10; i > 0; --i)
      text += std::string(kWords[random.bits64(at++) % 14]) + " ";
    text += "\n";
  }
  return text;
}

std::string jsonl(int documents) {
  std::string lines;
  for (int i = 0; i < documents; ++i) {
    lines += dump_json(Json{{"text", text_of(static_cast<uint64_t>(i), 1 + i % 50)}}, -1) + "\n";
  }
  return lines;
}

std::string all_documents(int documents) {
  std::string text;
  for (int i = 0; i < documents; ++i) text += text_of(static_cast<uint64_t>(i), 1 + i % 50);
  return text;
}

// A model trained once, by the program itself.
const std::string& model() {
  static const test::TemporaryDirectory directory;
  static const std::string path = [] {
    put(directory / "text.txt", text_of(1, 3000));
    const std::string made = (directory / "tok.model").string();
    const Result result =
        run(fmt::format("train-model --input {} --vocab-size 330 --character-coverage 1 --output {}",
                        (directory / "text.txt").string(), made));
    INFO(result.err);
    REQUIRE(result.code == 0);
    CHECK_THAT(result.out, test::contains("330 tokens, sha256 " + sha256_file(made, ErrorKind::kData)));
    return made;
  }();
  return path;
}

Result encode(const fs::path& input, const fs::path& output, const std::string& more = "") {
  return run(fmt::format("encode --tokenizer {} --input {} --output {} {}", model(), input.string(),
                         output.string(), more));
}

// Names and hashes of everything in a directory.
std::vector<std::string> content_of(const fs::path& directory) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    found.push_back(entry.path().filename().string() + " " + sha256_file(entry.path(), ErrorKind::kData));
  }
  std::sort(found.begin(), found.end());
  return found;
}

size_t entries(const fs::path& directory) { return fs::exists(directory) ? content_of(directory).size() : 0; }

}  // namespace

TEST_CASE("text comes back from its shards to the byte") {
  const test::TemporaryDirectory directory;
  const std::string text = text_of(7, 2000) + "no line end, \xE2\x96\x81, spaces   ";
  put(directory / "a.txt", text);
  const Result encoded = encode(directory / "a.txt", directory / "out", "--shard-tokens 1000");
  INFO(encoded.err);
  REQUIRE(encoded.code == 0);
  CHECK(entries(directory / "out") > 5);
  const Result decoded =
      run(fmt::format("decode --tokenizer {} '{}/train_*.bin'", model(), (directory / "out").string()));
  REQUIRE(decoded.code == 0);
  CHECK(decoded.out == text);
  const Json manifest = read_json_file(directory / "out" / "train.json", ErrorKind::kData);
  CHECK(manifest["documents"] == 1);
  CHECK(manifest["bytes"] == text.size());
  CHECK(manifest["document_token"] == 1);
  CHECK(manifest["tokenizer"]["sha256"] == sha256_file(model(), ErrorKind::kData));
  int64_t tokens = 0;
  for (const Json& file : manifest["files"]) {
    tokens += file["tokens"].get<int64_t>();
    CHECK(fs::file_size(directory / "out" / file["name"].get<std::string>()) ==
          1024 + 2 * file["tokens"].get<uint64_t>());
  }
  CHECK(manifest["tokens"] == tokens);
  // A part of it: bos is token 0.
  const std::string shards = fmt::format("'{}/train_*.bin'", (directory / "out").string());
  const Result first = run(fmt::format("decode --tokenizer {} {} --count 1", model(), shards));
  CHECK(first.out.empty());
  const Result head = run(fmt::format("decode --tokenizer {} {} --first 1 --count 1500", model(), shards));
  CHECK(head.out.size() > 1000);
  CHECK(text.starts_with(head.out));
}

TEST_CASE("threads and compression change no byte of the shards") {
  const test::TemporaryDirectory directory;
  const std::string lines = jsonl(3000);
  REQUIRE(lines.size() > 2'000'000);  // several batches
  put(directory / "a.jsonl", lines);
  const auto options = "--held-out-every 10 --shard-tokens 300000 --threads ";
  REQUIRE(encode(directory / "a.jsonl", directory / "one", options + std::string("1")).code == 0);
  const auto expected = content_of(directory / "one");
  REQUIRE(expected.size() > 4);
  REQUIRE(encode(directory / "a.jsonl", directory / "four", options + std::string("4")).code == 0);
  CHECK(content_of(directory / "four") == expected);
  for (const auto& [ending, compress] :
       {std::pair{"gz", &test::gzip}, {"xz", &test::xz}, {"zst", &test::zstd}}) {
    const auto compressed = directory / (std::string("a.jsonl.") + ending);
    put(compressed, compress(lines));
    REQUIRE(encode(compressed, directory / ending, options + std::string("2")).code == 0);
    CHECK(content_of(directory / ending) == expected);
  }
  // Train and validation together are all documents, each once.
  const Result train =
      run(fmt::format("decode --tokenizer {} '{}/train_*.bin'", model(), (directory / "one").string()));
  const Result held =
      run(fmt::format("decode --tokenizer {} '{}/validation_*.bin'", model(), (directory / "one").string()));
  CHECK(train.out.size() + held.out.size() == all_documents(3000).size());
  CHECK(read_json_file(directory / "one" / "train.json", ErrorKind::kData)["documents"] == 2700);
  CHECK(read_json_file(directory / "one" / "validation.json", ErrorKind::kData)["documents"] == 300);
  std::string tenths;
  for (int i = 9; i < 3000; i += 10) tenths += text_of(static_cast<uint64_t>(i), 1 + i % 50);
  CHECK(held.out == tenths);
}

TEST_CASE("a share of the documents is held out, the same ones every time") {
  const test::TemporaryDirectory directory;
  put(directory / "a.jsonl", jsonl(500));
  for (const char* output : {"one", "two"}) {
    REQUIRE(encode(directory / "a.jsonl", directory / output, "--validation-fraction 0.2").code == 0);
  }
  CHECK(content_of(directory / "one") == content_of(directory / "two"));
  const auto held =
      read_json_file(directory / "one" / "validation.json", ErrorKind::kData)["documents"].get<int>();
  CHECK(held > 70);
  CHECK(held < 130);
}

TEST_CASE("where no document was held out, or all were, encode says what to change") {
  const test::TemporaryDirectory directory;
  put(directory / "one.jsonl", jsonl(1));
  put(directory / "few.jsonl", jsonl(12));
  int runs = 0;
  const auto errors = [&](const char* file, const char* options) {
    const Result result = encode(directory / file, directory / fmt::format("out{}", ++runs), options);
    CHECK(result.code == 0);
    return result.err;
  };
  CHECK_THAT(errors("few.jsonl", "--held-out-every 50"),
             test::contains("no document went to validation: there are 12 and every 50th is held out; choose "
                            "--held-out-every 12 or less"));
  CHECK_THAT(errors("few.jsonl", "--validation-fraction 1e-9"),
             test::contains("there are 12; choose a larger --validation-fraction than 1e-09"));
  CHECK_THAT(errors("few.jsonl", "--validation-fraction 0.999999"),
             test::contains("no document went to train: all were held out"));
  CHECK_THAT(errors("one.jsonl", "--held-out-every 50"),
             test::contains("there is one; text in several files can be split"));
  CHECK(!fs::exists(directory / "out1" / "validation_000000.bin"));
}

TEST_CASE("stats count tokens, documents and bytes") {
  const test::TemporaryDirectory directory;
  put(directory / "a.jsonl", jsonl(100));
  REQUIRE(encode(directory / "a.jsonl", directory / "out").code == 0);
  const Result result =
      run(fmt::format("stats --tokenizer {} --top 3 {}", model(), (directory / "out").string()));
  REQUIRE(result.code == 0);
  const Json manifest = read_json_file(directory / "out" / "train.json", ErrorKind::kData);
  const double ratio = manifest["bytes"].get<double>() / manifest["tokens"].get<double>();
  CHECK_THAT(result.out, test::contains(fmt::format("tokens     {}\n", manifest["tokens"].get<int64_t>())));
  CHECK_THAT(result.out, test::contains("documents  100 (token 1)"));
  CHECK_THAT(result.out, test::contains(fmt::format("{:.3f} bytes per token", ratio)));
  CHECK_THAT(result.out, test::contains("\\n"));  // the line end is among the most frequent, printed readably
  CHECK(std::count(result.out.begin(), result.out.end(), '%') == 3);
}

TEST_CASE("a unigram model trains and gives its text back") {
  const test::TemporaryDirectory directory;
  // Names made of syllables: enough different pieces for a unigram vocabulary.
  static const char* const kSyllables[] = {"ka", "lo", "mi", "ren", "tus", "va", "dor", "es"};
  const Philox random(2);
  std::string text;
  for (uint64_t i = 0; i < 20000; ++i) {
    text += kSyllables[random.bits64(i) % 8];
    text += i % 11 == 0 ? "\n" : random.bits64(i) % 3 == 0 ? " " : "";
  }
  put(directory / "a.txt", text);
  const std::string made = (directory / "tok.model").string(), input = (directory / "a.txt").string();
  const Result trained =
      run(fmt::format("train-model --model unigram --input {} --vocab-size 320 --output {}", input, made));
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  const std::string out = (directory / "out").string();
  REQUIRE(run(fmt::format("encode --tokenizer {} --input {} --output {}", made, input, out)).code == 0);
  CHECK(run(fmt::format("decode --tokenizer {} {}", made, out)).out == text);
}

TEST_CASE("help tells all and succeeds; wrong usage exits with 2") {
  for (const char* arguments :
       {"--help", "train-model --help", "encode --help", "decode --help", "stats --help"}) {
    const Result result = run(arguments);
    CHECK(result.code == 0);
    CHECK_THAT(result.out, test::contains("Usage: tokenize"));
  }
  CHECK_THAT(run("encode --help").out, test::contains("--held-out-every"));
  for (const char* arguments :
       {"", "nonsense", "encode", "encode --tokenizer", "decode --count -1 x",
        "encode --tokenizer t --input i --output o --threads 0",
        "encode --tokenizer t --input i --output o --held-out-every 2 --validation-fraction 0.5"}) {
    const Result result = run(arguments);
    CHECK(result.code == 2);
    CHECK_FALSE(result.err.empty());
  }
}

TEST_CASE("errors exit with their code, a message and nothing left behind") {
  const test::TemporaryDirectory directory;
  const auto out = directory / "out";
  put(directory / "a.txt", text_of(1, 3000));
  const auto expect = [&](const Result& result, int code, const std::string& message) {
    INFO(result.err);
    CHECK(result.code == code);
    CHECK_THAT(result.err, test::contains("error: "));
    CHECK_THAT(result.err, test::contains(message));
    CHECK(entries(out) == 0);
  };
  expect(encode(directory / "missing.txt", out), 3, (directory / "missing.txt").string());
  expect(run(fmt::format("encode --tokenizer {0} --input {0} --output {1}", (directory / "a.txt").string(),
                         out.string())),
         3, "is no sentencepiece model");
  put(directory / "bad.jsonl", jsonl(2000) + "{\"txt\": 1}\n");
  expect(encode(directory / "bad.jsonl", out), 3, "bad.jsonl: line 2001 has no field \"text\"");
  put(directory / "cut.txt.gz", "\x1f\x8b\x08");
  expect(encode(directory / "cut.txt.gz", out), 3, "cut.txt.gz: ends inside a gzip stream");
  put(directory / "empty.txt", "");
  expect(encode(directory / "empty.txt", out), 3, "holds no text");
  expect(encode(directory / "a.txt", out, "--prefix validation --held-out-every 2"), 2,
         "--prefix validation");
  expect(run(fmt::format("train-model --input {} --vocab-size 100000 --output {}/tok.model",
                         (directory / "a.txt").string(), directory.path().string())),
         3, "cannot train a bpe tokenizer of 100000 tokens");
  CHECK_FALSE(fs::exists(directory / "tok.model"));
  expect(run(fmt::format("decode --tokenizer {} {}", model(), (directory / "missing.bin").string())), 3,
         "missing.bin");
  expect(run(fmt::format("stats {}", (directory / "missing.bin").string())), 3, "missing.bin");
}

TEST_CASE("a disk that takes no more is an error naming the file, and nothing stays") {
  const test::TemporaryDirectory directory;
  put(directory / "a.txt", text_of(1, 20000));
  // A limit on the size of files stands in for the full disk.
  const Result result = run(fmt::format("encode --tokenizer {} --input {} --output {}", model(),
                                        (directory / "a.txt").string(), (directory / "out").string()),
                            "trap '' XFSZ; ulimit -f 100;");
  INFO(result.err);
  CHECK(result.code == 3);
  CHECK_THAT(result.err, test::contains((directory / "out" / ".train_000000.bin.tmp-").string()));
  CHECK_THAT(result.err, test::contains("cannot write"));
  CHECK(entries(directory / "out") == 0);
}

TEST_CASE("earlier shards are not overwritten") {
  const test::TemporaryDirectory directory;
  put(directory / "a.txt", text_of(1, 100));
  REQUIRE(encode(directory / "a.txt", directory / "out").code == 0);
  const auto before = content_of(directory / "out");
  const Result again = encode(directory / "a.txt", directory / "out");
  CHECK(again.code == 2);
  CHECK_THAT(again.err, test::contains("train_000000.bin: shards of this prefix are here already"));
  CHECK(content_of(directory / "out") == before);
}
