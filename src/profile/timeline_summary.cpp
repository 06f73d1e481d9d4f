#include "profile/timeline_summary.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "profile/intervals.h"

namespace sluice::profile {
namespace {

constexpr size_t kNameWidth = 64;

class Times {
 public:
  void add(const std::string& name, const Interval& interval) {
    NamedTime& time = times_[name];
    ++time.calls;
    time.nanoseconds += interval.end - interval.begin;
  }
  std::vector<NamedTime> longest_first() const {
    std::vector<NamedTime> sorted;
    for (const auto& [name, time] : times_) sorted.push_back({name, time.calls, time.nanoseconds});
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const NamedTime& a, const NamedTime& b) { return a.nanoseconds > b.nanoseconds; });
    return sorted;
  }

 private:
  std::map<std::string, NamedTime> times_;
};

// The longest stretch of the timeline outside `busy`, and the work that ended where it begins.
void find_longest_gap(const Timeline& timeline, const std::vector<Interval>& busy, TimelineSummary& summary) {
  int64_t from = timeline.begin, gap_begin = timeline.begin;
  const auto look = [&](int64_t until) {
    if (until - from <= summary.longest_gap) return;
    summary.longest_gap = until - from;
    gap_begin = from;
  };
  for (const Interval& interval : busy) {
    look(interval.begin);
    from = interval.end;
  }
  look(timeline.end);
  for (const DeviceWork& work : timeline.device) {
    if (work.end == gap_begin) summary.before_gap = work.name;
  }
}

class Table {
 public:
  Table(const TimelineSummary& summary) : summary_(summary) {}

  double ms_a_step(int64_t nanoseconds) const {
    return static_cast<double>(nanoseconds) / 1e6 / static_cast<double>(summary_.steps);
  }
  double percent(int64_t nanoseconds) const { return percent_of(nanoseconds, summary_.length); }
  static double percent_of(int64_t part, int64_t whole) {
    return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
  void line(const std::string& text) { text_ += text + '\n'; }
  void times(const char* title, const std::vector<NamedTime>& times, size_t rows) {
    if (times.empty()) return;
    line(fmt::format("\n{:<{}} {:>9} {:>9} {:>6}", title, kNameWidth, "calls", "ms", "share"));
    int64_t other_calls = 0, other = 0;
    for (size_t i = 0; i < times.size(); ++i) {
      if (i < rows) {
        row(times[i].name, times[i].calls, times[i].nanoseconds);
      } else {
        other_calls += times[i].calls, other += times[i].nanoseconds;
      }
    }
    if (other_calls > 0) row(fmt::format("{} others", times.size() - rows), other_calls, other);
  }
  const std::string& text() const { return text_; }

 private:
  void row(const std::string& name, int64_t calls, int64_t nanoseconds) {
    const std::string shown = name.size() <= kNameWidth ? name : name.substr(0, kNameWidth - 3) + "...";
    line(fmt::format("{:<{}} {:>9.1f} {:>9.3f} {:>5.1f}%", shown, kNameWidth,
                     static_cast<double>(calls) / static_cast<double>(summary_.steps), ms_a_step(nanoseconds),
                     percent(nanoseconds)));
  }

  const TimelineSummary& summary_;
  std::string text_;
};

}  // namespace

TimelineSummary summarize(const Timeline& timeline) {
  TimelineSummary summary;
  summary.length = std::max<int64_t>(0, timeline.end - timeline.begin);
  summary.steps = std::max<int64_t>(1, timeline.steps);
  const auto inside = [&](int64_t begin, int64_t end) {
    return Interval{std::max(begin, timeline.begin), std::min(end, timeline.end)};
  };
  Times device, host;
  std::vector<Interval> all, collectives, kernels;
  for (const DeviceWork& work : timeline.device) {
    const Interval interval = inside(work.begin, work.end);
    if (interval.begin >= interval.end) continue;
    device.add(work.name, interval);
    all.push_back(interval);
    if (work.collective) {
      collectives.push_back(interval);
    } else if (work.kind == DeviceWork::Kind::kKernel) {
      kernels.push_back(interval);
    }
  }
  for (const HostRange& range : timeline.host) {
    const Interval interval = inside(range.begin, range.end);
    if (interval.begin < interval.end) host.add(range.name, interval);
  }
  summary.device = device.longest_first();
  summary.host = host.longest_first();
  const auto busy = united(std::move(all)), communication = united(std::move(collectives));
  summary.busy = total_length(busy);
  summary.idle = summary.length - summary.busy;
  if (!busy.empty()) find_longest_gap(timeline, busy, summary);
  summary.communication = total_length(communication);
  summary.overlapped = total_length(intersection(communication, united(std::move(kernels))));
  return summary;
}

std::string to_table(const Timeline& timeline, const TimelineSummary& summary, size_t rows) {
  Table table(summary);
  table.line(fmt::format("{} step{}, {:.3f} ms each", summary.steps, summary.steps == 1 ? "" : "s",
                         table.ms_a_step(summary.length)));
  if (!timeline.no_device.empty()) {
    table.line("nothing of the GPU: " + timeline.no_device);
  } else {
    table.line(fmt::format("GPU busy {:.3f} ms ({:.1f}%), idle {:.3f} ms ({:.1f}%); longest gap {:.3f} ms{}",
                           table.ms_a_step(summary.busy), table.percent(summary.busy),
                           table.ms_a_step(summary.idle), table.percent(summary.idle),
                           static_cast<double>(summary.longest_gap) / 1e6,
                           summary.before_gap.empty() ? "" : ", after " + summary.before_gap));
  }
  if (summary.communication > 0) {
    const int64_t alone = summary.communication - summary.overlapped;
    table.line(
        fmt::format("communication {:.3f} ms ({:.1f}%), of which {:.3f} ms ({:.1f}% of it) under other "
                    "kernels and {:.3f} ms alone",
                    table.ms_a_step(summary.communication), table.percent(summary.communication),
                    table.ms_a_step(summary.overlapped),
                    Table::percent_of(summary.overlapped, summary.communication), table.ms_a_step(alone)));
  }
  if (timeline.lost > 0) table.line(fmt::format("{} records were lost: profile fewer steps", timeline.lost));
  table.times("on the GPU, by name; per step", summary.device, rows);
  table.times("on the host, by range; per step", summary.host, rows);
  return table.text();
}

}  // namespace sluice::profile
