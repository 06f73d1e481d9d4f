// Saves checkpoints for checkpoint_crash_test, which kills it or makes its system calls fail.
//   crash_writer loop DIRECTORY ELEMENTS     from the newest on, each step twice, until killed
//   crash_writer once DIRECTORY STEP SALT    one checkpoint
#include <fmt/core.h>

#include <cstdio>
#include <string>

#include "core/error.h"
#include "sample_checkpoint.h"
#include "train/checkpoint_store.h"

using namespace sluice;

namespace {

[[noreturn]] void save_for_ever(const std::string& directory, int64_t elements) {
  CheckpointStore store(directory, {.keep_last = 2});
  store.clean_up();
  std::string report;
  const auto found = store.newest_valid(report);
  fmt::print("ready\n");
  std::fflush(stdout);
  for (int64_t step = found ? found->manifest.step + 1 : 1;; ++step) {
    for (int64_t salt = 0; salt < 2; ++salt) {
      store.save(test::sample_checkpoint(step, elements, salt));
      fmt::print("{}\n", 2 * step + salt);  // only what is durable is announced
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const std::string mode = arguments[1];
  try {
    if (mode == "loop") save_for_ever(arguments[2], std::stoll(arguments[3]));
    if (count != 5) return 2;
    CheckpointStore store(arguments[2], {.keep_last = 2});
    store.save(test::sample_checkpoint(std::stoll(arguments[3]), 300, std::stoll(arguments[4])));
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_code();
  }
  return 0;
}
