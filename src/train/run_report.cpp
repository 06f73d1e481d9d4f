#include "train/run_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/file.h"
#include "core/log.h"
#include "train/report_page.h"
#include "train/run_series.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDataMark = "@@SLUICE_DATA@@";
constexpr auto kBetweenReports = std::chrono::seconds(30);
constexpr int kShareOfTime = 250;  // a report may take one part in so many of the run's time
constexpr int64_t kPointsOfPage = 20000;

ReportLimits limits_for(int64_t runs) {
  ReportLimits limits;
  limits.points = std::clamp<int64_t>(kPointsOfPage / runs, 200, limits.points);
  if (runs > 1) limits.sampled_steps = std::max<int64_t>(limits.sampled_steps / runs, 1);
  return limits;
}

// Runs of one name are told apart by their directories.
void tell_apart(Json& runs) {
  std::multiset<std::string> names;
  for (const Json& run : runs) names.insert(run.at("name").get<std::string>());
  for (Json& run : runs) {
    if (names.count(run.at("name").get<std::string>()) > 1) run["name"] = run.at("directory");
  }
}

int64_t seconds_since_epoch() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace

std::string_view report_missing_because() { return kReportMissingReason; }

std::string fill_report(std::string_view page, const Json& data) {
  const size_t mark = page.find(kDataMark);
  SLUICE_ASSERT(mark != std::string_view::npos);
  std::string filled(page.substr(0, mark));
  // "</script" and "<!--" need a "<", which in JSON stands in strings only and has another spelling there.
  for (const char c : dump_json(data, -1)) {
    if (c == '<') {
      filled += "\\u003c";
    } else {
      filled += c;
    }
  }
  filled += page.substr(mark + kDataMark.size());
  return filled;
}

void write_report(const std::vector<fs::path>& runs, const fs::path& output) {
  SLUICE_CHECK(kReportMissingReason.empty(), kUsage, "this build has no report page: {}",
               kReportMissingReason);
  SLUICE_CHECK(!runs.empty(), kUsage, "a report needs a run");
  const ReportLimits limits = limits_for(static_cast<int64_t>(runs.size()));
  Json read = Json::array();
  for (const fs::path& run : runs) read.push_back(read_run(run, limits));
  tell_apart(read);
  const Json data{{"written", seconds_since_epoch()}, {"runs", std::move(read)}};
  write_file_atomically(output, fill_report(kReportPage, data), ErrorKind::kData);
}

LiveReport::LiveReport(fs::path directory)
    : directory_(std::move(directory)), off_(!kReportMissingReason.empty()) {
  if (off_) log::info("no report.html: {}", kReportMissingReason);
}

void LiveReport::refresh() {
  if (Clock::now() >= next_) finish();
}

void LiveReport::finish() {
  if (off_) return;
  const auto start = Clock::now();
  try {
    write_report({directory_}, directory_ / "report.html");
  } catch (const std::exception& error) {
    off_ = true;
    log::warning("no further report.html: {}", error.what());
  }
  const auto end = Clock::now();
  next_ = end + std::max<Clock::duration>(kBetweenReports, kShareOfTime * (end - start));
}

}  // namespace sluice
