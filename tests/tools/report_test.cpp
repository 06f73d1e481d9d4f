// The program `report`, run as its users do; tests/tools/report looks at its pages in a browser.
#include <fstream>

#include "apps/training_run.h"
#include "core/file.h"
#include "support/catch.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"
#include "train/run_report.h"

using namespace sluice;

namespace {

namespace fs = std::filesystem;

struct Run {
  int exit_code;
  std::string output;
};

Run report(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), SLUICE_BINARY_DIR "/report");
  test::ChildProcess process(arguments);
  const std::string output = process.read_all();
  return {process.wait(), output};
}

void make_run(const fs::path& directory) {
  fs::create_directories(directory);
  std::ofstream(directory / "log.jsonl")
      << R"({"step":1,"loss":8.5,"grad_norm":1,"lr":1,"tokens":64,"skipped":0})"
      << "\n";
}

}  // namespace

TEST_CASE("report writes into the run, or where it is told to") {
  const test::TemporaryDirectory directory;
  make_run(directory / "a");
  make_run(directory / "b");
  const Run one = report({directory / "a"});
  if (!report_missing_because().empty()) {  // a build without npm says so
    CHECK(one.exit_code == 2);
    CHECK_THAT(one.output, test::contains("this build has no report page"));
    return;
  }
  CHECK(one.exit_code == 0);
  CHECK(one.output == (directory / "a" / "report.html").string() + "\n");
  const std::string page = read_text_file(directory / "a" / "report.html", ErrorKind::kData);
  CHECK_THAT(page, test::contains(R"("y":[8.5])"));
  // The license of the charts travels with them, and nothing points elsewhere.
  CHECK_THAT(page, test::contains("Leon Sorokin"));
  CHECK(page.find("@@") == std::string::npos);
  CHECK(page.find("src=") == std::string::npos);

  const Run both = report({directory / "a", directory / "b", "--output", directory / "both.html"});
  CHECK(both.exit_code == 0);
  CHECK_THAT(read_text_file(directory / "both.html", ErrorKind::kData), test::contains(R"("name":"b")"));
}

TEST_CASE("report names what it cannot use") {
  CHECK(report({}).exit_code == 2);
  CHECK(report({"--help"}).exit_code == 0);
  if (!report_missing_because().empty()) return;
  const test::TemporaryDirectory directory;
  const Run none = report({directory / "nothing"});
  CHECK(none.exit_code == 3);
  CHECK_THAT(none.output, test::contains("nothing: no log.jsonl"));
}

TEST_CASE("train leaves a report of its last step, or says why not") {
  test::TrainingRun run;
  run.set("train.steps", "12");
  const test::Outcome outcome = run.train();
  REQUIRE(outcome.exit_code == 0);
  const fs::path page = run / "run" / "report.html";
  if (!report_missing_because().empty()) {
    CHECK_THAT(outcome.output, test::contains("no report.html: "));
    CHECK_FALSE(fs::exists(page));
    return;
  }
  const std::string text = read_text_file(page, ErrorKind::kData);
  CHECK_THAT(text, test::contains(R"("last":{"step":12,)"));
  CHECK_THAT(text, test::contains(R"("parameters":)"));
}
