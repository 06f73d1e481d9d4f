#include "config/error_of.h"
#include "config/run_fixture.h"
#include "core/random.h"

using namespace sluice;

namespace {

// Pieces that a broken file is likely to hold.
const char* const kPieces[] = {"{",
                               "}",
                               "[",
                               "]",
                               ",",
                               ":",
                               "\"",
                               "\\",
                               "null",
                               "NaN",
                               "-",
                               "1e999",
                               "3e9",
                               "18446744073709551616",
                               "\"\\ud800\"",
                               "\xFF",
                               "\xC3",
                               "{\"a\":",
                               "\"steps\":",
                               "true",
                               "0.5",
                               "\n",
                               "//",
                               "\"model\": \"x\",",
                               "-9223372036854775808",
                               "1e308",
                               "\"\"",
                               "{\"__float__\": \"NaN\"}"};

// One to eight random edits; number `index` of a fixed series.
std::string mutated(std::string text, uint64_t index) {
  const Philox random(2024, index);
  uint64_t draw = 0;
  const auto below = [&](uint64_t count) { return random.bits64(draw++) % count; };
  for (uint64_t edits = 1 + below(8); edits > 0 && !text.empty(); --edits) {
    const size_t at = below(text.size());
    switch (below(5)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        text.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), below(60)));
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

// The same run with one to three members of its sections replaced, renamed or removed: valid JSON, so that
// the reader is reached. Number `index` of a fixed series.
std::string rearranged(Json root, uint64_t index) {
  const Philox random(2026, index);
  uint64_t draw = 0;
  const auto below = [&](uint64_t count) { return random.bits64(draw++) % count; };
  const Json values = {nullptr, true, false, -1, 0,   1,     2,   1000,          int64_t{1} << 62,
                       0.5,     1.0,  1e308, "", "3", "cpu", "x", Json::array(), Json::object()};
  const char* const sections[] = {"data", "optimizer", "schedule", "train", "checkpoint", "log", "parallel"};
  for (uint64_t edits = 1 + below(3); edits > 0; --edits) {
    Json& section = root[sections[below(std::size(sections))]];
    if (!section.is_object() || section.empty()) continue;
    auto member = section.begin();
    std::advance(member, static_cast<int64_t>(below(section.size())));
    const std::string key = member.key();
    switch (below(4)) {
      case 0:
        section.erase(key);
        break;
      case 1:
        section[key + "s"] = *member;
        break;
      default:
        section[key] = values[below(values.size())];
        break;
    }
  }
  return dump_json(root);
}

// A path into `root` and a value, both at random, as one override.
std::string random_override(const Json& root, uint64_t index) {
  const Philox random(2025, index);
  const Json& section = root[random.bits64(0) % 2 ? "train" : "data"];
  auto key = section.begin();
  std::advance(key, static_cast<int64_t>(random.bits64(1) % section.size()));
  const std::string path = (&section == &root["train"] ? "train." : "data.") + key.key();
  return path + "=" + kPieces[random.bits64(2) % std::size(kPieces)];
}

struct Counts {
  int accepted = 0;
  int refused = 0;
};

// Reads number 0 to `count` - 1 of a series of files.
template <class Series>
Counts read_all(const test::RunFixture& run, int count, Series&& series) {
  Counts counts;
  for (int i = 0; i < count; ++i) {
    const std::string text = series(static_cast<uint64_t>(i));
    run.write(text);
    INFO(text);
    try {
      // What is accepted is sound: it prints, and reads back as itself.
      const Json printed = to_json(run.read());
      run.write(dump_json(printed));
      CHECK(to_json(run.read()) == printed);
      ++counts.accepted;
    } catch (const Error& error) {
      CHECK(error.exit_code() == 2);
      CHECK(std::string(error.what()).size() < 20'000);
      ++counts.refused;
    }
  }
  return counts;
}

}  // namespace

TEST_CASE("two thousand broken files are read or refused, never worse") {
  const test::RunFixture run;
  const Json valid = to_json(run.read({"data.validation=v", "data.tokenizer=t"}));
  const std::string text = dump_json(valid);
  const Counts torn = read_all(run, 1000, [&](uint64_t index) { return mutated(text, index); });
  CHECK(torn.refused > 900);
  const Counts wrong = read_all(run, 1000, [&](uint64_t index) { return rearranged(valid, index); });
  // Both happen, or the series tests nothing.
  CHECK(wrong.accepted > 100);
  CHECK(wrong.refused > 100);
}

TEST_CASE("two thousand random overrides are applied or refused, never worse") {
  const test::RunFixture run;
  const Json root = to_json(run.read());
  int accepted = 0;
  int refused = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    try {
      run.read({random_override(root, 2 * i), random_override(root, 2 * i + 1)});
      ++accepted;
    } catch (const Error& error) {
      CHECK(error.exit_code() == 2);
      ++refused;
    }
  }
  CHECK(accepted > 10);
  CHECK(refused > 1000);
}
