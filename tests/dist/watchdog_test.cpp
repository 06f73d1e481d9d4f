#include "dist/watchdog.h"

#include <array>
#include <atomic>

#include "loopback.h"
#include "support/catch.h"

using namespace sluice;

namespace {

constexpr int kNotEnded = -1;

// Waits at most five seconds for an exit code.
int ended_with(const std::atomic<int>& exit_code) {
  for (int i = 0; i < 500 && exit_code == kNotEnded; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return exit_code;
}

}  // namespace

TEST_CASE("the watchdog bounds each phase, not their sum") {
  const int port = test::free_port();
  std::array<int, 2> codes{};
  test::on_ranks(2, [&](int rank) {
    test::LoopbackCommunicator communicator(std::make_unique<TcpChannel>(test::meeting_at(port), rank, 2),
                                            {rank, 2, rank, 2, {"here", "here"}});
    std::atomic<int> exit_code = kNotEnded;
    {
      Watchdog watchdog(communicator, [&](int code) { exit_code = code; });
      // Phases that end in time, and one without a limit.
      for (int i = 0; i < 3; ++i) {
        watchdog.enter("step", i, 0.4);
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
      }
      watchdog.enter("step", 3, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(600));
      codes[static_cast<size_t>(rank)] = exit_code;
    }
    communicator.barrier();
  });
  CHECK(codes == std::array{kNotEnded, kNotEnded});
}

TEST_CASE("a connection that is gone ends the job, but not in the last phase") {
  for (const bool last : {false, true}) {
    const int port = test::free_port();
    test::on_ranks(2, [&](int rank) {
      auto communicator = std::make_unique<test::LoopbackCommunicator>(
          std::make_unique<TcpChannel>(test::meeting_at(port), rank, 2),
          World{rank, 2, rank, 2, {"here", "here"}});
      communicator->barrier();
      if (rank == 1) return;
      std::atomic<int> exit_code = kNotEnded;
      Watchdog watchdog(*communicator, [&](int code) { exit_code = code; });
      if (last) {
        watchdog.finish(5, 60);
        std::this_thread::sleep_for(std::chrono::milliseconds(800));
        CHECK(exit_code == kNotEnded);
      } else {
        watchdog.enter("step", 5, 60);
        CHECK(ended_with(exit_code) == 1);
      }
    });
  }
}

TEST_CASE("the limit of a step follows the steps there were") {
  StepLimit limit(300, 2);
  CHECK(limit.seconds() == 300);
  limit.took(50);  // the first one is long
  for (int i = 0; i < 10; ++i) limit.took(0.01);
  CHECK(limit.seconds() == 2);
  for (int i = 0; i < 100; ++i) limit.took(0.5);
  CHECK(limit.seconds() == 10);
  StepLimit none(0, 0);
  CHECK(none.seconds() == 0);
  none.took(1);
  CHECK(none.seconds() == 0);
}
