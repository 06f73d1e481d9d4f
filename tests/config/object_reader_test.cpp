#include "config/object_reader.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "config/error_of.h"
#include "config/nearest.h"

using namespace sluice;

namespace {

// What `read` reports about {"k": VALUE}; empty when it is content.
template <class Read>
std::string report(const std::string& value, Read&& read) {
  const Json json = parse_json("{\"k\": " + value + "}", "f.json", ErrorKind::kUsage);
  Problems problems;
  ObjectReader reader(json, "s", problems);
  read(reader);
  reader.finish();
  if (problems.empty()) return "";
  return test::error_of(ErrorKind::kUsage, [&] { problems.throw_if_any("f.json", ErrorKind::kUsage); });
}

std::string integer_report(const std::string& value, int64_t min = ObjectReader::kMinInteger,
                           int64_t max = ObjectReader::kMaxInteger) {
  return report(value, [&](ObjectReader& reader) { reader.integer("k", 7, min, max); });
}

std::string number_report(const std::string& value, double min = ObjectReader::kMinNumber,
                          double max = ObjectReader::kMaxNumber) {
  return report(value, [&](ObjectReader& reader) { reader.number("k", 7, min, max); });
}

}  // namespace

TEST_CASE("values of the right type are read, missing ones default") {
  const Json json = parse_json(R"({"i": -3, "e": 1e3, "u": 18446744073709551615, "n": 2, "x": 0.5, "b": true,
                                   "t": "text", "l": ["a", "b"], "c": "two", "o": {"i": 4}, "z": null})",
                               "f.json", ErrorKind::kUsage);
  Problems problems;
  ObjectReader reader(json, "", problems);
  CHECK(reader.integer("i", 0, -3, -3) == -3);
  CHECK(reader.integer("e", 0) == 1000);
  CHECK(reader.unsigned_integer("u", 0) == std::numeric_limits<uint64_t>::max());
  CHECK(reader.number("n", 0) == 2.0);
  CHECK(reader.number("x", 0, 0.5, 0.5) == 0.5);
  CHECK(reader.boolean("b", false));
  CHECK(reader.text("t", "") == "text");
  CHECK(reader.text_list("l", {}) == std::vector<std::string>{"a", "b"});
  CHECK(reader.choice("c", "one", {"one", "two"}) == "two");
  ObjectReader inner = reader.object("o");
  CHECK(inner.required_integer("i") == 4);
  CHECK(inner.path_of("i") == "o.i");
  inner.finish();
  CHECK(reader.has("z"));
  CHECK(reader.optional_integer("z") == std::nullopt);
  CHECK(reader.optional_number("absent") == std::nullopt);
  CHECK(reader.optional_number("x") == 0.5);
  CHECK(reader.optional_boolean("b") == true);
  CHECK(reader.optional_text("t") == "text");
  CHECK(reader.integer("absent", 9) == 9);
  CHECK_FALSE(reader.has("absent"));
  CHECK(reader.raw("absent") == nullptr);
  CHECK(reader.text_list("absent", {"d"}) == std::vector<std::string>{"d"});
  CHECK(reader.object("absent").integer("i", 5) == 5);
  reader.finish();
  CHECK(problems.empty());
}

TEST_CASE("an integer is never made of anything else") {
  CHECK(integer_report("3") == "");
  CHECK(integer_report("3e9", 0, 2147483647) ==
        "f.json: 1 problem\n  s.k: expected an integer from 0 to 2147483647, got 3000000000.0");
  CHECK_THAT(integer_report("3000000000", 0, 2147483647), test::contains("2147483647, got 3000000000"));
  CHECK_THAT(integer_report("1.9"), test::contains("s.k: expected an integer of 64 bits, got 1.9"));
  CHECK_THAT(integer_report("true"), test::contains("got true"));
  CHECK_THAT(integer_report("\"3\""), test::contains("got the string \"3\""));
  CHECK_THAT(integer_report("null"), test::contains("got null"));
  CHECK_THAT(integer_report("[3]"), test::contains("got a list"));
  CHECK_THAT(integer_report("[]"), test::contains("got an empty list"));
  CHECK_THAT(integer_report("{}"), test::contains("got an object"));
  CHECK_THAT(integer_report("0", 1), test::contains("expected an integer of at least 1, got 0"));
  CHECK_THAT(integer_report("1", ObjectReader::kMinInteger, 0), test::contains("of at most 0, got 1"));
  CHECK_THAT(integer_report("18446744073709551616"), test::contains("expected an integer"));
  CHECK_THAT(integer_report("9223372036854775808"), test::contains("got 9223372036854775808"));
  CHECK(integer_report("9223372036854775807") == "");
  CHECK(integer_report("-9223372036854775808") == "");
  // 2^53 may stand for 2^53 + 1, rounded.
  CHECK(integer_report("9007199254740991.0") == "");
  CHECK_THAT(integer_report("9007199254740992.0"), test::contains("expected an integer"));
  const auto unsigned_report = [](const std::string& value) {
    return report(value, [](ObjectReader& reader) { reader.unsigned_integer("k", 7); });
  };
  CHECK_THAT(unsigned_report("-1"), test::contains("from 0 to 18446744073709551615, got -1"));
  CHECK_THAT(unsigned_report("18446744073709551616"), test::contains("expected an integer"));
}

TEST_CASE("numbers are finite unless infinity is within the bounds") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(number_report("-2") == "");
  CHECK_THAT(number_report("\"0.5\""), test::contains("expected a finite number, got the string \"0.5\""));
  CHECK_THAT(number_report("false"), test::contains("got false"));
  CHECK_THAT(number_report("2", 0, 1), test::contains("a finite number from 0 to 1, got 2"));
  CHECK_THAT(number_report("-1", 0), test::contains("of at least 0, got -1"));
  CHECK_THAT(number_report("1", -5, 0.5), test::contains("from -5 to 0.5, got 1"));
  CHECK_THAT(number_report("{\"__float__\": \"Infinity\"}"),
             test::contains("finite number, got an infinity"));
  CHECK_THAT(number_report("{\"__float__\": \"NaN\"}", -infinity, infinity), test::contains("got an object"));
  CHECK_THAT(number_report("{\"__float__\": 1}", -infinity, infinity), test::contains("got an object"));
  for (const char* text : {"\"-inf\"", "{\"__float__\": \"-Infinity\"}"}) {
    const std::string message = report(
        text, [&](ObjectReader& reader) { CHECK(reader.number("k", 0, -infinity, infinity) == -infinity); });
    CHECK(message == "");
  }
  // A NaN cannot come from a file, but from a value that a program built.
  const Json json = {{"k", std::nan("")}};
  Problems problems;
  ObjectReader reader(json, "", problems);
  CHECK(reader.number("k", 3, -infinity, infinity) == 3);
  CHECK(problems.size() == 1);
}

TEST_CASE("a problem leaves the default in place") {
  const Json json = parse_json(R"({"i": 1.5, "n": "x", "b": 1, "t": 3, "l": ["a", 2], "c": "tow"})", "f.json",
                               ErrorKind::kUsage);
  Problems problems;
  ObjectReader reader(json, "s", problems);
  CHECK(reader.integer("i", 7) == 7);
  CHECK(reader.number("n", 0.25) == 0.25);
  CHECK(reader.boolean("b", true));
  CHECK(reader.text("t", "d") == "d");
  CHECK(reader.text_list("l", {"d"}) == std::vector<std::string>{"d"});
  CHECK(reader.choice("c", "one", {"one", "two", "three"}) == "one");
  CHECK(reader.required_integer("missing", 4, 9) == 4);
  reader.required_object("section").finish();
  reader.finish();
  const std::string message =
      test::error_of(ErrorKind::kCheckpoint, [&] { problems.throw_if_any("f", ErrorKind::kCheckpoint); });
  CHECK_THAT(message, test::contains("f: 8 problems\n  s.i: expected an integer"));
  CHECK_THAT(message, test::contains("s.b: expected true or false, got 1"));
  CHECK_THAT(message, test::contains("s.t: expected a string, got 3"));
  CHECK_THAT(message, test::contains("s.l.1: expected a string, got 2"));
  CHECK_THAT(message, test::contains("s.c: expected \"one\", \"two\" or \"three\", got the string \"tow\""));
  CHECK_THAT(message, test::contains("s.missing: required, but missing"));
  CHECK_THAT(message, test::contains("s.section: required, but missing"));
}

TEST_CASE("optional values that are there are checked, required ones are read") {
  CHECK_THAT(report("1.5", [](ObjectReader& r) { CHECK(!r.optional_integer("k")); }), test::contains("1.5"));
  CHECK_THAT(report("5", [](ObjectReader& r) { CHECK(!r.optional_number("k", 0, 1)); }),
             test::contains("to 1"));
  CHECK_THAT(report("5", [](ObjectReader& r) { CHECK(!r.optional_boolean("k")); }),
             test::contains("true or"));
  CHECK_THAT(report("5", [](ObjectReader& r) { CHECK(!r.optional_text("k")); }), test::contains("a string"));
  CHECK(report("5", [](ObjectReader& r) { CHECK(r.required_number("k") == 5.0); }) == "");
  CHECK(report("true", [](ObjectReader& r) { CHECK(r.required_boolean("k")); }) == "");
  CHECK(report("\"t\"", [](ObjectReader& r) { CHECK(r.required_text("k") == "t"); }) == "");
  CHECK_THAT(report("[]", [](ObjectReader& r) { r.text_list("k", {}); }), !test::contains("problem"));
  CHECK_THAT(report("\"t\"", [](ObjectReader& r) { r.text_list("k", {}); }),
             test::contains("expected a list of strings, got the string \"t\""));
}

TEST_CASE("an object that is none is one problem and reads as empty") {
  const Json json = Json::array();
  Problems problems;
  ObjectReader reader(json, "s", problems);
  CHECK(reader.integer("i", 3) == 3);
  reader.finish();
  CHECK_THAT(test::error_of(ErrorKind::kUsage, [&] { problems.throw_if_any("f", ErrorKind::kUsage); }),
             test::contains("s: expected an object, got an empty list"));
}

TEST_CASE("unread keys are reported with the nearest key") {
  const auto unread = [](const std::string& key) {
    const Json json = {{key, 1}, {"lr", 1}};
    const std::vector<std::string> known = {"optimizer.warmup", "train.steps"};
    Problems problems;
    ObjectReader reader(json, "optimizer", problems, known);
    reader.integer("lr", 1);
    reader.integer("weight_decay", 1);
    reader.ignore("legacy");
    reader.finish();
    return problems.empty()
               ? std::string()
               : test::error_of(ErrorKind::kUsage, [&] { problems.throw_if_any("f", ErrorKind::kUsage); });
  };
  CHECK_THAT(unread("weigth_decay"),
             test::contains("optimizer.weigth_decay: unknown key; did you mean optimizer.weight_decay?"));
  // Also when that key is there: a mistyped override is added beside the key it was meant for.
  CHECK_THAT(unread("lrr"), test::contains("optimizer.lrr: unknown key; did you mean optimizer.lr?"));
  CHECK_THAT(unread("weightDecay"), test::contains("did you mean optimizer.weight_decay?"));
  CHECK_THAT(unread("weight-decay"), test::contains("did you mean optimizer.weight_decay?"));
  CHECK_THAT(unread("step"), test::contains("did you mean train.steps?"));
  CHECK_THAT(unread("steps"), test::contains("optimizer.steps: unknown key; did you mean train.steps?"));
  CHECK_THAT(unread("momentum"), test::contains("unknown key"));
  CHECK_THAT(unread("momentum"), !test::contains("did you mean"));
  CHECK(unread("legacy") == "");
  CHECK_THAT(unread(std::string(100'000, 'x')), test::contains("unknown key"));
  CHECK_THAT(unread("a\nb"), test::contains("optimizer.a\\nb: unknown key"));
}

TEST_CASE("slips are counted without case and separators") {
  CHECK(slip_distance("lrr", "lr") == 1);
  CHECK(slip_distance("sequnece_length", "sequence_length") == 1);  // swapped neighbours
  CHECK(slip_distance("sequenceLength", "sequence_length") == 0);
  CHECK(slip_distance("kitten", "sitting") == std::nullopt);  // 3 of 7 letters
  CHECK(slip_distance("kitten", "sittin") == 2);              // 2 of 6
  CHECK(slip_distance("a", "b") == std::nullopt);
  CHECK(slip_distance("", "lr") == std::nullopt);
  CHECK(slip_distance(std::string(65, 'a'), std::string(65, 'a')) == std::nullopt);
}

TEST_CASE("a list of problems is cut at fifty, and knows what it concerns") {
  Problems problems;
  problems.throw_if_any("f", ErrorKind::kUsage);
  for (int i = 0; i < 60; ++i) problems.add(fmt::format("k{}", i), "wrong");
  const std::string message =
      test::error_of(ErrorKind::kUsage, [&] { problems.throw_if_any("f", ErrorKind::kUsage); });
  CHECK_THAT(message, test::contains("f: 60 problems"));
  CHECK_THAT(message, test::contains("k49: wrong\n  and 10 more"));
  problems.add("data.train.0", "wrong");
  CHECK(problems.concerns("data.train.0"));
  CHECK(problems.concerns("data.train"));
  CHECK(problems.concerns("data.train.0.path"));
  CHECK_FALSE(problems.concerns("data.train.01"));
  CHECK_FALSE(problems.concerns("data.tra"));
}
