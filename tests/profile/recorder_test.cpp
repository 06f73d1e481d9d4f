#include "profile/recorder.h"

#include <thread>

#include "core/profile_range.h"
#include "support/catch.h"

using namespace sluice;
using namespace sluice::profile;

TEST_CASE("a recorder hears of the ranges between start and stop, of all threads") {
  { const ProfileRange before("nobody listens"); }
  TimelineRecorder recorder(false);
  { const ProfileRange before("not yet"); }
  recorder.start();
  {
    const ProfileRange outer("outer");
    const ProfileRange inner("inner");
    std::thread([] { const ProfileRange range("elsewhere"); }).join();
  }
  const Timeline timeline = recorder.stop(3);
  { const ProfileRange after("not any more"); }
  REQUIRE(timeline.host.size() == 3);
  const HostRange &elsewhere = timeline.host[0], &inner = timeline.host[1], &outer = timeline.host[2];
  CHECK(std::string(elsewhere.name) == "elsewhere");
  CHECK(std::string(inner.name) == "inner");
  CHECK(std::string(outer.name) == "outer");
  CHECK(elsewhere.thread != inner.thread);
  CHECK(inner.thread == outer.thread);
  CHECK(timeline.steps == 3);
  CHECK(timeline.begin <= outer.begin);
  CHECK(outer.begin <= inner.begin);
  CHECK(inner.begin <= elsewhere.begin);
  CHECK(inner.end <= outer.end);
  CHECK(outer.end <= timeline.end);
}

TEST_CASE("a timeline without a GPU says why") {
  TimelineRecorder on_cpu(false);
  CHECK_THAT(on_cpu.no_device(), Catch::Contains("on the CPU"));
  on_cpu.start();
  CHECK(on_cpu.stop(1).no_device == on_cpu.no_device());
  // Also where there is none to be asked.
  TimelineRecorder unknown(true);
  unknown.start();
  const Timeline timeline = unknown.stop(1);
  CHECK(timeline.device.empty());
  CHECK_FALSE(timeline.no_device.empty());
}
