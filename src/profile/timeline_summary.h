// Where the time of training steps went, as numbers and as a table.
#pragma once

#include <string>
#include <vector>

#include "profile/timeline.h"

namespace sluice::profile {

struct NamedTime {
  std::string name;
  int64_t calls = 0;
  int64_t nanoseconds = 0;
};

// All times in nanoseconds of the whole stretch; work that reaches over its ends counts inside alone.
struct TimelineSummary {
  int64_t length = 0, steps = 1;
  std::vector<NamedTime> device;  // by name, longest first
  std::vector<NamedTime> host;    // by range, longest first; time in ranges inside others counts for both
  int64_t busy = 0;               // at least one piece of work on the GPU
  int64_t idle = 0;               // the rest
  int64_t longest_gap = 0;        // without work
  std::string before_gap;         // what ended at its beginning; "" at the start
  int64_t communication = 0;      // at least one collective
  int64_t overlapped = 0;         // of that, together with other kernels
};

TimelineSummary summarize(const Timeline& timeline);

// A page of text: per step, the `rows` longest lines of each table.
std::string to_table(const Timeline& timeline, const TimelineSummary& summary, size_t rows = 30);

}  // namespace sluice::profile
