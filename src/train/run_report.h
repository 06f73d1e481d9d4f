// report.html: the curves of one run or several in one page that needs nothing from elsewhere. The page's own
// code is tools/report/web, bundled when the build finds npm; without it there is no report.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/json.h"

namespace sluice {

// Empty where this build has the page, else why it has not, for a message.
std::string_view report_missing_because();

// `page` with `data` in the place it keeps for it. No text of `data` can end the script element it stands in.
std::string fill_report(std::string_view page, const Json& data);

// Reads the runs and writes the page with all of them to `output`, atomically. Several runs share 20,000
// points of a series, at least 200 each, so that the page stays small. Error(kData) for a run that cannot be
// read, kUsage where this build has no page.
void write_report(const std::vector<std::filesystem::path>& runs, const std::filesystem::path& output);

// Keeps DIRECTORY/report.html of a run in progress fresh, for less than half a percent of the run's time.
// Nothing that goes wrong with it stops the run: a warning is logged, once.
class LiveReport {
 public:
  explicit LiveReport(std::filesystem::path directory);  // says so where this build has no page

  // Writes the page if the last time is long enough ago.
  void refresh();
  void finish();  // writes it whatever the time

 private:
  using Clock = std::chrono::steady_clock;

  std::filesystem::path directory_;
  Clock::time_point next_;
  bool off_ = false;
};

}  // namespace sluice
