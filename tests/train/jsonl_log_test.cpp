#include "train/jsonl_log.h"

#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

std::string text_of(const std::filesystem::path& path) { return read_text_file(path, ErrorKind::kData); }

}  // namespace

TEST_CASE("lines are readable at once, in the order written") {
  const test::TemporaryDirectory directory;
  JsonlLog log(directory / "new" / "log.jsonl", 0);
  log.write({{"step", 1}, {"loss", 0.1}});
  CHECK(text_of(log.path()) == "{\"step\":1,\"loss\":0.1}\n");
  log.write({{"loss", std::numeric_limits<double>::quiet_NaN()},
             {"norm", -std::numeric_limits<double>::infinity()},
             {"text", "half a \xE2\x82 character\n"}});
  CHECK(log.size() == static_cast<int64_t>(text_of(log.path()).size()));
  const auto lines = read_jsonl(log.path());
  REQUIRE(lines.size() == 2);
  CHECK(lines[0]["loss"].get<double>() == 0.1);
  CHECK(lines[1]["loss"] == "nan");
  CHECK(lines[1]["norm"] == "-inf");
  CHECK(lines[1]["text"] == "half a \xEF\xBF\xBD character\n");
}

TEST_CASE("a resumed log reads as if the run had never stopped") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "log.jsonl";
  int64_t at_checkpoint = 0;
  {
    JsonlLog log(path, 0);
    for (int step = 1; step <= 5; ++step) {
      log.write({{"step", step}});
      if (step == 3) at_checkpoint = log.size();
    }
  }
  std::ofstream(path, std::ios::app) << "{\"step\":6,\"lo";
  CHECK(read_jsonl(path).size() == 5);  // the cut line is left out
  {
    JsonlLog log(path, at_checkpoint);
    CHECK(log.size() == at_checkpoint);
    for (int step = 4; step <= 5; ++step) log.write({{"step", step}});
  }
  CHECK(text_of(path) == "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n{\"step\":5}\n");
  CHECK(JsonlLog(path, 0).size() == 0);
  CHECK(text_of(path).empty());
}

TEST_CASE("a log shorter than its checkpoint remembers goes on after its last whole line") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "log.jsonl";
  std::ofstream(path) << "{\"step\":1}\n{\"st";
  JsonlLog log(path, 1000);
  log.write({{"step", 2}});
  CHECK(text_of(path) == "{\"step\":1}\n{\"step\":2}\n");
  CHECK(JsonlLog(directory / "gone.jsonl", 1000).size() == 0);
}

TEST_CASE("a long line before the cut is found whole") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "log.jsonl";
  std::ofstream(path) << "1\n" << std::string(200000, '7');
  CHECK(JsonlLog(path, 200000).size() == 2);
}

TEST_CASE("a full disk is an error of its own, with the path") {
  if (!std::filesystem::exists("/dev/full")) return;
  JsonlLog log("/dev/full", 0);
  try {
    log.write({{"step", 1}});
    FAIL("wrote to a full device");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    CHECK_THAT(error.what(), test::contains("/dev/full: cannot write: No space left on device"));
  }
  CHECK(log.size() == 0);
}

TEST_CASE("half a line is taken back") {
  const test::TemporaryDirectory directory;
  JsonlLog log(directory / "log.jsonl", 0);
  log.write({{"step", 1}});
  const int64_t before = log.size();
  // A file size limit lets the first bytes of the line through.
  struct rlimit limit {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  struct rlimit low = limit;
  low.rlim_cur = static_cast<rlim_t>(before + 4);
  const auto earlier = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
  CHECK_THROWS_WITH(log.write({{"step", 2}}), test::contains("the log cannot go on after byte 11"));
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::signal(SIGXFSZ, earlier);
  CHECK(text_of(log.path()) == "{\"step\":1}\n");
  CHECK(log.size() == before);
  log.write({{"step", 3}});
  CHECK(text_of(log.path()) == "{\"step\":1}\n{\"step\":3}\n");
}

TEST_CASE("a broken line is named by its number") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "log.jsonl";
  std::ofstream(path) << "{}\n{\"a\":}\n{}\n";
  CHECK_THROWS_WITH(read_jsonl(path), test::contains("log.jsonl:2"));
}

TEST_CASE("a log in an impossible place is an error") {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "file") << "x";
  CHECK_THROWS_WITH(JsonlLog(directory / "file" / "log.jsonl", 0), test::contains("/file"));
}
