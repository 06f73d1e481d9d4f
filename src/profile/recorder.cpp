#include "profile/recorder.h"

#include <map>
#include <mutex>
#include <thread>

#include "core/profile_range.h"
#include "profile/device_tracer.h"

namespace sluice::profile {
namespace {

class Ranges final : public ProfileListener {
 public:
  void range_ended(const char* name, int64_t begin, int64_t end) override {
    const std::lock_guard lock(mutex_);
    const int known = static_cast<int>(threads_.size());
    const int thread = threads_.emplace(std::this_thread::get_id(), known).first->second;
    ranges_.push_back({name, begin, end, thread});
  }
  std::vector<HostRange> take() {
    const std::lock_guard lock(mutex_);
    return std::move(ranges_);
  }

 private:
  std::mutex mutex_;
  std::vector<HostRange> ranges_;
  std::map<std::thread::id, int> threads_;
};

}  // namespace

struct TimelineRecorder::Recording {
  explicit Recording(bool gpu) {
    if (gpu) {
      tracer = make_device_tracer(no_device);
    } else {
      no_device = "the run is on the CPU";
    }
  }

  std::string no_device;
  std::unique_ptr<DeviceTracer> tracer;
  Ranges ranges;
  int64_t begin = 0;
};

TimelineRecorder::TimelineRecorder(bool gpu) : recording_(std::make_unique<Recording>(gpu)) {}

TimelineRecorder::~TimelineRecorder() { listen_to_ranges(nullptr); }

const std::string& TimelineRecorder::no_device() const { return recording_->no_device; }

void TimelineRecorder::start() {
  int64_t before_start = 0;
  if (recording_->tracer) recording_->tracer->take(before_start);
  listen_to_ranges(&recording_->ranges);
  recording_->begin = profile_clock();
}

Timeline TimelineRecorder::stop(int64_t steps) {
  listen_to_ranges(nullptr);
  Timeline timeline;
  timeline.end = profile_clock();
  timeline.begin = recording_->begin;
  timeline.steps = steps;
  timeline.no_device = recording_->no_device;
  if (recording_->tracer) timeline.device = recording_->tracer->take(timeline.lost);
  timeline.host = recording_->ranges.take();
  recording_->tracer.reset();
  return timeline;
}

}  // namespace sluice::profile
