// What a run's files tell, small enough for one page: numbers by step, samples and perplexity by position.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/json.h"

namespace sluice {

struct SeriesPoint {
  double x = 0;
  double y = 0;  // NaN: not finite in the run, a gap in the line
};

// At most `limit` points (4 or more) of `points`, which ascend in x: the first, the last, and the least and
// greatest y of stretches of equally many points, in their order. All of them where they are no more than
// `limit`.
std::vector<SeriesPoint> thin(const std::vector<SeriesPoint>& points, int64_t limit);

// `count` indices of 0 to size - 1, evenly spread, first and last among them; all where there are no more.
std::vector<int64_t> spread(int64_t size, int64_t count);

// The first characters of UTF-8 `text` that fit in `limit` bytes, then U+2026 where something was cut.
std::string shorten(std::string_view text, size_t limit);

struct ReportLimits {
  int64_t points = 5000;       // of a series
  int64_t sampled_steps = 12;  // whose samples are kept, the last among them
  int64_t samples = 4;         // of a step
  size_t sample_bytes = 2000;  // of a sample's text, and of its prompt
};

// The run in `directory`, as the page reads it (tools/report/web/data.js says how). log.jsonl must be there;
// timing.jsonl, run.json and evaluation.json (of `evaluate --json`) add what they have. Error(kData) names
// the file and line that cannot be read.
Json read_run(const std::filesystem::path& directory, const ReportLimits& limits = {});

}  // namespace sluice
