#include "profile/trace_file.h"

#include <fmt/format.h>

#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

namespace sluice::profile {
namespace {

constexpr int64_t kFirstStreamTrack = 1000;  // behind the host's threads

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Microseconds, exact to the nanosecond.
std::string microseconds(int64_t nanoseconds) {
  return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

class Events {
 public:
  explicit Events(int rank) : rank_(rank) {}

  void name(const char* what, int64_t track, const std::string& name) {
    begin();
    fmt::format_to(std::back_inserter(text_),
                   R"({{"ph":"M","pid":{},"tid":{},"name":"{}","args":{{"name":{}}}}})", rank_, track, what,
                   quoted(name));
  }
  void span(int64_t track, const char* category, const std::string& name, int64_t from, int64_t to,
            const std::string& details) {
    begin();
    fmt::format_to(std::back_inserter(text_),
                   R"({{"ph":"X","pid":{},"tid":{},"cat":"{}","name":{},"ts":{},"dur":{},"args":{{{}}}}})",
                   rank_, track, category, quoted(name), microseconds(from), microseconds(to - from),
                   details);
  }
  std::string finish() && { return text_ + "\n]}\n"; }

 private:
  void begin() {
    if (!first_) text_ += ",\n";
    first_ = false;
  }

  int rank_;
  bool first_ = true;
  std::string text_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
};

const char* category_of(const DeviceWork& work) {
  if (work.collective) return "communication";
  switch (work.kind) {
    case DeviceWork::Kind::kKernel:
      return "kernel";
    case DeviceWork::Kind::kCopy:
      return "copy";
    case DeviceWork::Kind::kFill:
      return "fill";
  }
  return "";
}

std::string details_of(const DeviceWork& work) {
  if (work.kind != DeviceWork::Kind::kKernel) return fmt::format(R"("bytes":{})", work.bytes);
  return fmt::format(R"("full name":{},"of a graph":{})", quoted(work.full_name), work.of_graph);
}

}  // namespace

std::string to_chrome_trace(const Timeline& timeline, int rank) {
  Events events(rank);
  events.name("process_name", 0, fmt::format("rank {}", rank));
  std::map<int64_t, std::string> tracks;
  for (const HostRange& range : timeline.host) {
    tracks.emplace(range.thread, range.thread == 0 ? "host" : fmt::format("host, thread {}", range.thread));
  }
  for (const DeviceWork& work : timeline.device) {
    std::string& track = tracks[kFirstStreamTrack + work.stream];
    if (track.empty()) track = fmt::format("GPU, stream {}", work.stream);
    if (work.collective && !track.ends_with("communication")) track += ", communication";
  }
  for (const auto& [track, name] : tracks) events.name("thread_name", track, name);
  for (const HostRange& range : timeline.host)
    events.span(range.thread, "host", range.name, range.begin, range.end, "");
  for (const DeviceWork& work : timeline.device) {
    events.span(kFirstStreamTrack + work.stream, category_of(work), work.name, work.begin, work.end,
                details_of(work));
  }
  return std::move(events).finish();
}

}  // namespace sluice::profile
