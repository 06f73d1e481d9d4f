// A process that dies or whose calls fail at any point of a save leaves the old checkpoint or the new one
// whole.
#include <chrono>
#include <csignal>
#include <thread>

#include "core/file.h"
#include "core/random.h"
#include "sample_checkpoint.h"
#include "support/catch.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_names.h"
#include "train/checkpoint_store.h"

using namespace sluice;
using test::ChildProcess;
namespace fs = std::filesystem;

namespace {

int64_t count_with_prefix(const fs::path& directory, std::string_view prefix) {
  int64_t count = 0;
  for (const std::string& name : entry_names(directory)) count += name.starts_with(prefix) ? 1 : 0;
  return count;
}

// Which save of crash_writer's loop (2 * step + salt) the newest valid checkpoint is, 0 for none. Cleaning up
// first must change nothing in that.
int64_t newest_save(const fs::path& directory, int64_t elements, bool clean_up) {
  CheckpointStore store(directory, {.keep_last = 2});
  if (clean_up) store.clean_up();
  std::string report;
  const auto found = store.newest_valid(report);
  INFO(report);
  CHECK(report.empty());  // nothing broken is ever seen under a checkpoint's name
  if (!found) return 0;
  const int64_t step = found->manifest.step;
  for (int64_t salt = 0; salt < 2; ++salt) {
    if (test::difference_from_sample(found->directory, step, elements, salt).empty()) return 2 * step + salt;
  }
  FAIL("step " << step << " holds neither of its two saves");
  return -1;
}

}  // namespace

TEST_CASE("SIGKILL at 50 random times leaves the last announced checkpoint or the next") {
  constexpr int64_t kElements = 30000;
  using Clock = std::chrono::steady_clock;
  const test::TemporaryDirectory directory;
  const Philox random(20);
  Clock::duration one_save = std::chrono::milliseconds(20);
  int64_t newest = 0;  // as newest_save() counts
  int64_t midway = 0;  // kills that left a temporary directory
  for (uint64_t i = 0; i < 50; ++i) {
    // The shim spoils nothing here; it spares the wait for the disk, which a killed process does not need.
    ChildProcess writer({SLUICE_CRASH_WRITER, "loop", directory.path().string(), std::to_string(kElements)},
                        {{"LD_PRELOAD", SLUICE_FAULT_SHIM}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}});
    REQUIRE(writer.read_line() == "ready");
    // Half of the processes die in their first save, the others in the one that replaces it.
    int64_t announced = 0;
    if (i % 2 == 1) {
      const auto start = Clock::now();
      announced = std::stoll(writer.read_line());
      one_save = Clock::now() - start;
    }
    std::this_thread::sleep_for(random.uniform(i) * one_save);
    writer.kill(SIGKILL);
    REQUIRE(writer.wait() == -SIGKILL);
    for (std::string line = writer.read_line(); !line.empty(); line = writer.read_line()) {
      announced = std::stoll(line);
    }
    midway += count_with_prefix(directory.path(), ".") > 0 ? 1 : 0;
    // A process goes on with the step after the newest one. Its saves are numbers in a row, from the first of
    // that step; the one after the last announced may be in place already.
    const int64_t first = (newest / 2 + 1) * 2;
    const int64_t found = newest_save(directory.path(), kElements, false);
    INFO("try " << i << ": newest was " << newest << ", announced " << announced << ", found " << found);
    if (announced == 0) {
      CHECK((found == newest || found == first));
    } else {
      CHECK((found == announced || found == announced + 1));
    }
    CHECK(newest_save(directory.path(), kElements, true) == found);
    CHECK(count_with_prefix(directory.path(), ".") == 0);
    newest = found;
  }
  // The kills did fall both between saves and into them; how many of each depends on the machine's load.
  CHECK(newest >= 10);
  CHECK(midway >= 5);
}

TEST_CASE("a save that fails or dies at its n-th call leaves the old or the new checkpoint") {
  // A new step beside two others, and a step that is saved again.
  const int64_t step = GENERATE(3, 2);
  const std::string action = GENERATE("enospc", "eio", "kill", "torn");
  const test::TemporaryDirectory directory;
  const fs::path original = directory / "original";
  CheckpointStore prepared(original, {.keep_last = 2});
  prepared.save(test::sample_checkpoint(1));
  prepared.save(test::sample_checkpoint(2));

  int64_t calls = 0;
  for (int64_t at = 0; at <= calls; ++at) {
    const fs::path place = directory / std::to_string(at);
    fs::copy(original, place, fs::copy_options::recursive);
    const fs::path report = directory / "report";
    ChildProcess writer({SLUICE_CRASH_WRITER, "once", place.string(), std::to_string(step), "1"},
                        {{"LD_PRELOAD", SLUICE_FAULT_SHIM},
                         {"FAULT_SHIM_AT", std::to_string(at)},
                         {"FAULT_SHIM_ACTION", action},
                         {"FAULT_SHIM_REPORT", report.string()},
                         {"ASAN_OPTIONS", "verify_asan_link_order=0"}});
    const std::string output = writer.read_all();
    const int code = writer.wait();
    INFO("step " << step << ", " << action << " at call " << at << " of " << calls << ", exit code " << code
                 << ": " << output);
    if (at == 0) {
      REQUIRE(code == 0);
      calls = std::stoll(read_text_file(report, ErrorKind::kData));
      REQUIRE(calls > 20);
    }

    CheckpointStore store(place, {.keep_last = 2});
    std::string refused;
    const auto found = store.newest_valid(refused);
    REQUIRE(found);
    CHECK(refused == "");
    const bool is_new =
        found->manifest.step == step && test::difference_from_sample(found->directory, step, 300, 1).empty();
    const bool is_old =
        found->manifest.step == 2 && test::difference_from_sample(found->directory, 2, 300, 0).empty();
    CHECK((is_new || is_old));

    const bool fails = action == "enospc" || action == "eio";
    if (fails && at > 0) {
      // Once the checkpoint is in place and durable, only pruning can fail, which costs no more than disk.
      CHECK((code == 4 || (code == 0 && is_new)));
      CHECK(count_with_prefix(place, kTemporaryPrefix) == 0);
      if (code == 4) {
        CHECK_THAT(output, test::contains((place / checkpoint_name(step)).string()));
        CHECK_THAT(output,
                   test::contains(action == "eio" ? "Input/output error" : "No space left on device"));
        CHECK_THAT(output, test::contains("It needs 3636 bytes"));
        CHECK_THAT(output, test::contains("are free"));
        CHECK_NOTHROW(CheckpointStore::verify(place / "step_00000001"));
        CHECK_NOTHROW(CheckpointStore::verify(place / "step_00000002"));
      } else {
        CHECK_THAT(output, test::contains("cannot remove an old checkpoint"));
      }
    } else if (at > 0) {
      CHECK(code == -SIGKILL);
    }

    store.clean_up();
    CHECK(count_with_prefix(place, ".") == 0);
    const auto again = store.newest_valid(refused);
    REQUIRE(again);
    CHECK(again->manifest.step == found->manifest.step);
    fs::remove_all(place);
  }
}
