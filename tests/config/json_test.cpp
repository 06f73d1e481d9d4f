#include "config/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "config/error_of.h"
#include "core/file.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

std::string error_in(std::string_view text) {
  return test::error_of(ErrorKind::kUsage, [&] { parse_json(text, "f.json", ErrorKind::kUsage); });
}

std::string repeated(const std::string& part, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += part;
  return result;
}

}  // namespace

TEST_CASE("values arrive with their types, keys in the order of the file") {
  const Json value = parse_json(R"({"z": [1, -2, 2.5, "s", true, null, {}, []],
                                    "a": {"b": 18446744073709551615}})",
                                "f.json", ErrorKind::kUsage);
  CHECK(value.begin().key() == "z");
  CHECK(value["z"].size() == 8);
  CHECK(value["z"][0].is_number_unsigned());
  CHECK(value["z"][1] == -2);
  CHECK(value["z"][2].is_number_float());
  CHECK(value["z"][3] == "s");
  CHECK(value["z"][4].is_boolean());
  CHECK(value["z"][5].is_null());
  CHECK(value["a"]["b"].get<uint64_t>() == std::numeric_limits<uint64_t>::max());
  CHECK(parse_json("\xEF\xBB\xBF 7 \n", "f.json", ErrorKind::kUsage) == 7);
}

TEST_CASE("errors carry the kind the caller gave and the name of the file") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "broken.json", "{\n  \"a\": 1,\n}", ErrorKind::kUsage);
  const std::string message = test::error_of(
      ErrorKind::kCheckpoint, [&] { read_json_file(directory / "broken.json", ErrorKind::kCheckpoint); });
  CHECK_THAT(message, test::contains((directory / "broken.json").string() + ": line 3, column 1: "));
  CHECK_THAT(test::error_of(ErrorKind::kData, [&] { read_json_file("/no/such.json", ErrorKind::kData); }),
             test::contains("/no/such.json: cannot open"));
}

TEST_CASE("a file too large to be JSON is refused before it is read") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "large.json", "1", ErrorKind::kUsage);
  std::filesystem::resize_file(directory / "large.json", (int64_t{256} << 20) + 1);  // sparse
  CHECK_THAT(
      test::error_of(ErrorKind::kUsage, [&] { read_json_file(directory / "large.json", ErrorKind::kUsage); }),
      test::contains("268435457 bytes are too many"));
}

TEST_CASE("a duplicate key is named by its path, at any depth, however it is spelt") {
  CHECK(error_in("{\"a\": 1,\n \"a\": 1}") == "f.json: line 2, column 4: duplicate key a");
  CHECK_THAT(error_in(R"({"data": {"train": [1, {"path": 1, "path": 2}]}})"),
             test::contains("duplicate key data.train.1.path"));
  CHECK_THAT(error_in(R"({"a": 1, "\u0061": 2})"), test::contains("duplicate key a"));
  // The same key in two objects is none.
  CHECK(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "f.json", ErrorKind::kUsage)[1]["a"]["a"] == 2);
}

TEST_CASE("depth is capped at 64 levels") {
  CHECK(parse_json(repeated("[", 64) + repeated("]", 64), "f.json", ErrorKind::kUsage).is_array());
  CHECK(error_in(repeated("[", 65) + repeated("]", 65)) ==
        "f.json: line 1, column 65: nested deeper than 64 levels");
  CHECK_THAT(error_in(std::string(2'000'000, '[')), test::contains("nested deeper than 64 levels"));
  CHECK_THAT(error_in(repeated("{\"a\":", 100'000)), test::contains("nested deeper than 64 levels"));
}

TEST_CASE("what is no JSON is refused with line and column") {
  CHECK_THAT(error_in(""), test::contains("f.json: line 1, column 1: "));
  CHECK_THAT(error_in("{} {}"), test::contains("line 1, column 4: "));
  CHECK_THAT(error_in("{\"a\": 1} // comment"), test::contains("line 1, column 10: "));
  CHECK_THAT(error_in("[1,\n2,\n"), test::contains("line 3, column 1: "));
  CHECK_THAT(error_in("{\"a\": 'b'}"), test::contains("line 1, column 7: "));
  CHECK_THAT(error_in("[1e999]"), test::contains("number overflow"));
  CHECK_THAT(error_in(std::string("{}\0{}", 5)), test::contains("line 1, column 3: a zero byte"));
  CHECK_THAT(error_in("[01]"), test::contains("line 1, column 3: "));
}

TEST_CASE("NaN and infinities are refused in words of their own") {
  CHECK(error_in("{\"a\": NaN}") == "f.json: line 1, column 7: NaN is no JSON value; numbers must be finite");
  CHECK_THAT(error_in("[-Infinity]"), test::contains("Infinity is no JSON value"));
  CHECK_THAT(error_in("[nan]"), test::contains("nan is no JSON value"));
  // Only outside of strings.
  CHECK_THAT(error_in("[\"nan"), !test::contains("is no JSON value"));
}

TEST_CASE("invalid UTF-8 is refused, and the message is valid UTF-8 of bounded length") {
  const std::string message = error_in("{\"a\": \"b\xFF\"}");
  CHECK_THAT(message, test::contains("line 1, column 9: "));
  CHECK_THAT(message, test::contains("ill-formed UTF-8"));
  CHECK(message.find('\xFF') == message.npos);
  CHECK(error_in("\"" + std::string(1'000'000, 'x')).size() < 400);
  CHECK(error_in("{\"" + std::string(1000, 'k') + "\":1,\"" + std::string(1000, 'k') + "\":1}").size() < 400);
}

TEST_CASE("many keys are read in linear time") {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += fmt::format("{}\"key{}\":{}", i ? "," : "", i, i);
  const Json value = parse_json(text + "}", "f.json", ErrorKind::kUsage);
  CHECK(value.size() == 100'000);
  CHECK(value.back() == 99'999);
}

TEST_CASE("doubles read back bit for bit") {
  for (const double number : {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, -0.0, 1e22, 3e-4}) {
    const double back = parse_json(dump_json(Json(number)), "f.json", ErrorKind::kUsage).get<double>();
    CHECK(back == number);
    CHECK(std::signbit(back) == std::signbit(number));
  }
}

TEST_CASE("the written form is stable and survives what JSON cannot hold") {
  CHECK(dump_json(Json{{"b", 1}, {"a", {1, 2}}}) == "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    2\n  ]\n}");
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(dump_json(Json{{"x", {std::nan(""), infinity, -infinity}}}, -1) == R"({"x":["nan","inf","-inf"]})");
  CHECK(dump_json(Json("a\xFFz")) == "\"a\xEF\xBF\xBDz\"");
}

TEST_CASE("printable text has no control characters, keeps quotes, and is cut between characters") {
  CHECK(printable("say \"a\\b\"") == "say \"a\\b\"");
  CHECK(printable("a\x1B[2J\n") == "a\\u001b[2J\\n");
  CHECK(printable("\xFF") == "\xEF\xBF\xBD");
  CHECK(printable("ab\xC3\xA4", 3) == "ab...");
  CHECK(printable("ab\xC3\xA4", 4) == "ab\xC3\xA4");
}
