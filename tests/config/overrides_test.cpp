#include "config/overrides.h"

#include <nlohmann/json.hpp>

#include "config/error_of.h"

using namespace sluice;

namespace {

Json changed(const std::string& before, const std::string& text) {
  Json root = parse_json(before, "f.json", ErrorKind::kUsage);
  apply_override(root, text);
  return root;
}

std::string error_in(const std::string& before, const std::string& text) {
  Json root = parse_json(before, "f.json", ErrorKind::kUsage);
  const Json untouched = root;
  const std::string message = test::error_of(ErrorKind::kUsage, [&] { apply_override(root, text); });
  CHECK(root == untouched);
  return message;
}

}  // namespace

TEST_CASE("an override replaces, adds and makes sections") {
  CHECK(changed(R"({"a": {"b": 1}})", "a.b=2") == Json({{"a", {{"b", 2}}}}));
  CHECK(changed(R"({"a": {"b": 1}})", "a.c=2")["a"].size() == 2);
  CHECK(changed("{}", "a.b.c=true")["a"]["b"]["c"] == true);
  CHECK(changed(R"({"a": null})", "a.b=1")["a"]["b"] == 1);
  CHECK(changed(R"({"a": {"b": 1}})", "a=7")["a"] == 7);
}

TEST_CASE("an override's value is JSON, or else a word") {
  const auto value = [](const std::string& text) { return changed("{}", "k=" + text)["k"]; };
  CHECK(value("1e-3") == 1e-3);
  CHECK(value("12").is_number_unsigned());
  CHECK(value("true") == true);
  CHECK(value("null").is_null());
  CHECK(value("\"3\"") == "3");
  CHECK(value("[1, \"b\"]") == Json({1, "b"}));
  CHECK(value("{\"x\": 1}")["x"] == 1);
  CHECK(value("runs/a b=c") == "runs/a b=c");
  CHECK(value("nan") == "nan");
  CHECK(value("") == "");
}

TEST_CASE("an override reaches into lists") {
  const std::string before = R"({"l": [{"w": 1}, {"w": 2}]})";
  CHECK(changed(before, "l.1.w=5")["l"][1]["w"] == 5);
  CHECK(changed(before, "l.2.w=5")["l"].size() == 3);
  CHECK(changed("{}", "l.0.w=5")["l"] == Json::array({{{"w", 5}}}));
  CHECK_THAT(error_in(before, "l.3.w=5"), test::contains("l is a list of 2, 3 is no index of it"));
  CHECK_THAT(error_in(before, "l.first=5"), test::contains("first is no index"));
  CHECK_THAT(error_in(before, "l.-1=5"), test::contains("-1 is no index"));
  CHECK_THAT(error_in(before, "l.99999999999999999999999=5"), test::contains("is no index"));
}

TEST_CASE("overrides that make no sense are errors and change nothing") {
  CHECK_THAT(error_in("{}", "a.b"), test::contains("a.b: the form is section.key=value"));
  CHECK_THAT(error_in("{}", ""), test::contains("the form is"));
  CHECK_THAT(error_in("{}", "=1"), test::contains("the form is"));
  for (const char* text : {".a=1", "a.=1", "a..b=1", ".=1"}) {
    CHECK_THAT(error_in("{}", text), test::contains("empty key"));
  }
  CHECK_THAT(error_in("{}", "a=[1"), test::contains("a=[1: line 1, column 3"));
  CHECK_THAT(error_in("{}", R"(a={"x":1,"x":2})"), test::contains("duplicate key x"));
  CHECK_THAT(error_in("{}", "a=\"b"), test::contains("a=\"b: line 1"));
  CHECK_THAT(error_in(R"({"a": 5})", "a.b=1"), test::contains("a.b=1: a is 5, which has no key b"));
  CHECK_THAT(error_in(R"({"a": ["p"]})", "a.0.w=1"),
             test::contains("a.0 is the string \"p\", which has no key w"));
  std::string deep = "a";
  for (int i = 0; i < 100'000; ++i) deep += ".a";
  CHECK_THAT(error_in("{}", deep + "=1"), test::contains("100001 keys are too many, at most 32"));
}
