#include "data/tokenizer.h"

#include <fmt/core.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cmath>
#include <filesystem>
#include <utility>

#include "core/file.h"
#include "core/random.h"
#include "data/token_files.h"
#include "data/train_tokenizer.h"
#include "data/utf8.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

// A small language: words of a fixed list in random order, with lines, indents and some code.
std::string corpus(uint64_t seed, int lines) {
  static const char* const kWords[] = {
      "the",   "quick",   "brown",   "fox",     "jumps", "over",   "a",     "lazy",       "dog",
      "while", "reading", "readers", "read",    "books", "about",  "gates", "and",        "rivers;",
      "water", "waters,", "flow.",   "flowing", "(x)",   "return", "int",   "caf\xC3\xA9"};
  const Philox random(seed);
  std::string text;
  uint64_t at = 0;
  for (int line = 0; line < lines; ++line) {
    if (random.bits64(at++) % 4 == 0) text += std::string(2 * (1 + random.bits64(at++) % 4), ' ');
    const uint64_t words = 1 + random.bits64(at++) % 12;
    for (uint64_t i = 0; i < words; ++i)
      text += std::string(i > 0 ? " " : "") + kWords[random.bits64(at++) % 26];
    text += random.bits64(at++) % 5 == 0 ? "\n\n" : "\n";
  }
  return text;
}

TokenizerTraining small(const std::string& model) {
  TokenizerTraining training;
  training.model = model;
  training.vocabulary_size = 340;
  training.character_coverage = 1.0;
  return training;
}

std::string train(const TokenizerTraining& training, const std::string& text) {
  bool given = false;
  return train_tokenizer(training, [&](std::string& next) {
    next = text;
    return !std::exchange(given, true);
  });
}

// The path of a model trained once; `dummy_prefix` as other projects have it: a space before every text.
std::filesystem::path model_path(const std::string& model, bool dummy_prefix) {
  static const test::TemporaryDirectory directory;
  const auto path = directory / fmt::format("{}-{}.model", model, dummy_prefix);
  if (std::filesystem::exists(path)) return path;
  if (!dummy_prefix) {
    OutputFile(path, ErrorKind::kData).write(train(small(model), corpus(1, 2000)));
    return path;
  }
  const auto text = directory / "corpus.txt";
  OutputFile(text, ErrorKind::kData).write(corpus(1, 2000));
  std::string content;
  const auto status = sentencepiece::SentencePieceTrainer::Train({{"input", text.string()},
                                                                  {"model_type", model},
                                                                  {"vocab_size", "340"},
                                                                  {"byte_fallback", "true"},
                                                                  {"normalization_rule_name", "identity"},
                                                                  {"remove_extra_whitespaces", "false"},
                                                                  {"allow_whitespace_only_pieces", "true"},
                                                                  {"num_threads", "1"},
                                                                  {"minloglevel", "3"}},
                                                                 nullptr, &content);
  REQUIRE(status.ok());
  OutputFile(path, ErrorKind::kData).write(content);
  return path;
}

// sentencepiece itself, one call a text.
class Library {
 public:
  Library(const std::string& model, bool dummy_prefix) {
    REQUIRE(processor_.Load(model_path(model, dummy_prefix).string()).ok());
  }
  std::vector<int32_t> encode(const std::string& text) const {
    std::vector<int> ids;
    REQUIRE(processor_.Encode(text, &ids).ok());
    return ids;
  }
  std::string decode(const std::vector<int32_t>& ids) const {
    std::string text;
    REQUIRE(processor_.Decode(ids, &text).ok());
    return text;
  }
  // Log likelihood of a segmentation under a unigram model.
  double score(const std::vector<int32_t>& ids) const {
    double sum = 0;
    for (const int32_t id : ids) sum += processor_.GetScore(id);
    return sum;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

const std::vector<std::string> kTexts = {
    "",
    " ",
    "\n",
    "a",
    "   three before, two after  ",
    "lines\n\n\nand\ttabs\t\n  indented\r\n",
    "int main() {\n    return (x);   // comment\n}\n",
    "\xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB e\xCC\x81 "
    "\xEF\xBB\xBF",
    "\xE2\x96\x81 the mark itself\xE2\x96\x81\xE2\x96\x81x \xE2\x96\x81",
    "\xE2\x96\x85 \xE2\x81\x87 <s></s><unk><0x41> \x01\x7F",
    std::string("nul\0nul", 7),
    std::string(300, ' ') + "x" + std::string(300, '\n'),
};

}  // namespace

TEST_CASE("every text comes back to the byte") {
  for (const char* model : {"bpe", "unigram"}) {
    for (const bool dummy_prefix : {false, true}) {
      const Tokenizer tokenizer(model_path(model, dummy_prefix));
      for (const std::string& text : kTexts) {
        INFO(model << " " << dummy_prefix << " \"" << text << "\"");
        CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
      }
      const std::string text = corpus(2, 300);
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
      const Philox random(9);
      for (uint64_t i = 0; i < 300; ++i) {
        std::string noise, clean;
        for (uint64_t k = 0; k < 1 + i % 40; ++k)
          noise += static_cast<char>(random.bits64(1000 * i + k) % 256);
        utf8::append_valid(noise, clean);
        REQUIRE(tokenizer.decode(tokenizer.encode(clean)) == clean);
      }
    }
  }
}

TEST_CASE("cutting texts into lines and words changes no id") {
  for (const bool dummy_prefix : {false, true}) {
    const Tokenizer tokenizer(model_path("bpe", dummy_prefix));
    const Library library("bpe", dummy_prefix);
    for (uint64_t seed = 10; seed < 40; ++seed) {
      const std::string text = corpus(seed, 20);
      REQUIRE(tokenizer.encode(text) == library.encode(text));
    }
    for (const std::string& text : kTexts) {
      // The library makes a space of the mark.
      if (text.find("\xE2\x96\x81") == std::string::npos)
        CHECK(tokenizer.encode(text) == library.encode(text));
    }
  }
}

TEST_CASE("cutting texts finds a segmentation of a unigram model that is as likely") {
  for (const bool dummy_prefix : {false, true}) {
    const Tokenizer tokenizer(model_path("unigram", dummy_prefix));
    const Library library("unigram", dummy_prefix);
    int64_t same = 0;
    for (uint64_t seed = 10; seed < 40; ++seed) {
      const std::string text = corpus(seed, 20);
      const auto ids = tokenizer.encode(text), whole = library.encode(text);
      REQUIRE(ids.size() == whole.size());
      REQUIRE(std::abs(library.score(ids) - library.score(whole)) < 0.01);
      same += ids == whole ? 1 : 0;
    }
    CHECK(same >= 20);  // the rest differs in runs of spaces that can be split either way
  }
}

TEST_CASE("an encoder goes on from one piece to the next, and remembers words") {
  for (const bool dummy_prefix : {false, true}) {
    const Tokenizer tokenizer(model_path("bpe", dummy_prefix));
    Encoder encoder(tokenizer);
    const std::string text = corpus(3, 50);
    const std::vector<int32_t> whole = tokenizer.encode(text);
    for (int round = 0; round < 2; ++round) {
      std::vector<int32_t> joined;
      for (size_t at = 0; at < text.size();) {
        const size_t end = text.find('\n', std::min(at + 40, text.size() - 1)) + 1;
        encoder.encode(std::string_view(text).substr(at, end - at), at > 0, joined);
        at = end;
      }
      CHECK(joined == whole);
    }
  }
}

TEST_CASE("stretches without a place to cut are encoded in bounded pieces and come back") {
  const Tokenizer tokenizer(model_path("bpe", false));
  for (const std::string unit : {"x", "\xE4\xB8\xAD", " "}) {
    std::string text;
    while (text.size() < 3 * Tokenizer::kMaximumStretch) text += unit;
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("decoding agrees with the library on any ids that make valid text") {
  const Philox random(4);
  for (const bool dummy_prefix : {false, true}) {
    const Tokenizer tokenizer(model_path("bpe", dummy_prefix));
    const Library library("bpe", dummy_prefix);
    for (uint64_t i = 0; i < 500; ++i) {
      std::vector<int> ids;
      // Neither unknown nor byte tokens, whose invalid bytes the library replaces one by one.
      while (ids.size() < 1 + i % 10) {
        const auto id = static_cast<int32_t>(random.bits64(100 * i + ids.size()) % 80 + 260);
        ids.push_back(id);
      }
      REQUIRE(tokenizer.decode(ids) == library.decode(ids));
    }
  }
}

TEST_CASE("a stream decoder never gives half a character, and all of the text") {
  for (const bool dummy_prefix : {false, true}) {
    const Tokenizer tokenizer(model_path("bpe", dummy_prefix));
    StreamDecoder decoder(tokenizer);
    for (const std::string& text : kTexts) {
      std::string joined;
      for (const int32_t id : tokenizer.encode(text)) {
        const std::string part = decoder.push(id);
        std::string valid;
        REQUIRE(utf8::append_valid(part, valid) == 0);
        joined += part;
      }
      REQUIRE(joined == text);
      REQUIRE(decoder.finish().empty());
    }
    // Half of a character at the end, and damaged bytes in the middle.
    const auto ids = tokenizer.encode("\xF0\x9F\x98\x80");
    const size_t lead = ids.size() - 4;
    CHECK(decoder.push(ids[lead]).empty());
    CHECK(decoder.push(ids[lead + 1]).empty());
    CHECK(decoder.finish() == "\xEF\xBF\xBD");
    CHECK(decoder.push(ids[lead]).empty());
    CHECK(decoder.push(ids[lead]) == "\xEF\xBF\xBD");
    // bos ends one text and begins another.
    CHECK(decoder.push(tokenizer.bos_id()) == "\xEF\xBF\xBD");
    std::string second;
    for (const int32_t id : tokenizer.encode("the fox")) second += decoder.push(id);
    CHECK(second == "the fox");
  }
}

TEST_CASE("a trained model has the ids that are promised") {
  const Tokenizer tokenizer(model_path("unigram", false));
  CHECK(tokenizer.vocabulary_size() == 340);
  CHECK(tokenizer.unk_id() == 0);
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
  CHECK(tokenizer.encode("\n") == std::vector<int32_t>{3});
  CHECK(tokenizer.bytes_of(3) == "\n");
  CHECK(tokenizer.piece(1) == "<s>");
  CHECK(tokenizer.bytes_of(1).empty());
  CHECK(tokenizer.sha256().size() == 64);
  CHECK(tokenizer.encode("<s>").front() != 1);
}

TEST_CASE("training is deterministic") {
  const std::string text = corpus(5, 500);
  for (const char* model : {"bpe", "unigram"}) {
    TokenizerTraining training = small(model);
    training.maximum_lines = 300;
    training.seed = 3;
    CHECK(train(training, text) == train(training, text));
  }
}

TEST_CASE("lines that are too long for the trainer are used all the same") {
  // One line, 60 kB; dropped, it would leave nothing to learn from.
  std::string text = corpus(6, 2000);
  for (char& letter : text) letter = letter == '\n' ? ' ' : letter;
  const test::TemporaryDirectory directory;
  OutputFile(directory / "a.model", ErrorKind::kData).write(train(small("bpe"), text));
  const Tokenizer tokenizer(directory / "a.model");
  CHECK(tokenizer.encode(" reading").size() <= 2);
}

TEST_CASE("tokenizers and training refuse what they cannot use") {
  const test::TemporaryDirectory directory;
  const std::string path = (directory / "a.model").string();
  CHECK_THAT(test::error_of([&] { Tokenizer tokenizer(path); }), test::contains("3 " + path));
  for (const std::string& content :
       {std::string(), std::string("hello"), std::string(1000, '\xFF'),
        read_text_file(model_path("bpe", false), ErrorKind::kData).substr(0, 2000)}) {
    OutputFile(path, ErrorKind::kData).write(content);
    CHECK_THAT(test::error_of([&] { Tokenizer tokenizer(path); }),
               test::contains("3 " + path + ": is no sentencepiece model"));
  }
  const Tokenizer tokenizer(model_path("bpe", false));
  const std::vector<int32_t> outside = {340}, negative = {-1};
  CHECK_THAT(test::error_of([&] { tokenizer.decode(outside); }), test::contains("3 token id 340 is outside"));
  CHECK_THAT(test::error_of([&] { tokenizer.decode(negative); }), test::contains("3 token id -1 is outside"));
  CHECK_THAT(test::error_of([&] { tokenizer.piece(340); }), test::contains("3 token id 340 is outside"));

  const auto with = [&](auto&& change, const std::string& text) {
    TokenizerTraining training = small("bpe");
    change(training);
    return test::error_of([&] { train(training, text); });
  };
  CHECK_THAT(with([](auto& t) { t.model = "word"; }, "x"), test::contains("2 tokenizer model \"word\""));
  CHECK_THAT(with([](auto& t) { t.vocabulary_size = 259; }, "x"), test::contains("2 vocabulary size 259"));
  CHECK_THAT(with([](auto& t) { t.character_coverage = 1.5; }, "x"),
             test::contains("2 character coverage 1.5"));
  CHECK_THAT(with([](auto& t) { t.threads = 0; }, "x"), test::contains("threads (0)"));
  CHECK_THAT(with([](auto&) {}, ""), test::contains("3 there is no text"));
  CHECK_THAT(with([](auto& t) { t.vocabulary_size = 5000; }, corpus(7, 100)),
             test::contains("3 cannot train a bpe tokenizer of 5000 tokens on this text: Vocabulary size"));
  CHECK_THAT(test::error_of([] {
               train_tokenizer(small("bpe"), [](std::string&) -> bool { SLUICE_FAIL(kData, "gone"); });
             }),
             test::contains("3 gone"));
}

TEST_CASE(
    "damage that sentencepiece tells by an exception, or not at all, is an error with the file's name") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "tokenizer.model";
  // A piece without a character.
  test::write_hex(path, "0a0e0a053c756e6b3e350000000018020a0c0a0300008115004040404040");
  CHECK_THAT(test::error_of([&] { Tokenizer{path}; }),
             test::contains("3 " + path.string() + ": is no sentencepiece model"));
  // Byte pieces whose names are no bytes.
  std::string content = train(small("bpe"), corpus(1, 200));
  const size_t at = content.find("<0x41>");
  REQUIRE(at != std::string::npos);
  for (const char* name : {"<0xZZ>", "<0x4Z>", "abcdef"}) {
    content.replace(at, 6, name);
    test::write_bytes(path, std::as_bytes(std::span(content)));
    CHECK_THAT(test::error_of([&] { Tokenizer{path}; }), test::contains("3 " + path.string()));
  }
}
