#include "train/stop_signal.h"

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "core/error.h"

namespace sluice {
namespace {

struct Handled {
  int number;
  const char* name;
};
constexpr std::array<Handled, 3> kHandled = {
    {{SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGUSR1, "SIGUSR1"}}};

// All that a handler may touch.
volatile std::sig_atomic_t first_signal = 0;
std::array<std::atomic<int64_t>, kHandled.size()> noted_at;  // nanoseconds of a steady clock; 0: not yet
static_assert(std::atomic<int64_t>::is_always_lock_free);

int holders = 0;
std::array<struct sigaction, kHandled.size()> earlier_actions;

int64_t now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

extern "C" void note_signal(int number) {
  if (first_signal == 0) first_signal = number;
  for (size_t i = 0; i < kHandled.size(); ++i) {
    if (kHandled[i].number != number) continue;
    int64_t before = 0;
    if (noted_at[i].compare_exchange_strong(before, now())) return;
    if (static_cast<double>(now() - before) < 1e9 * kRepeatSeconds) return;
    std::signal(number, SIG_DFL);
    ::raise(number);
  }
}

}  // namespace

StopSignal::StopSignal() {
  if (holders++ > 0) return;
  first_signal = 0;
  for (auto& time : noted_at) time = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  // Reads and writes go on after a signal.
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kHandled.size(); ++i) {
    SLUICE_ASSERT(::sigaction(kHandled[i].number, &action, &earlier_actions[i]) == 0);
  }
}

StopSignal::~StopSignal() {
  if (--holders > 0) return;
  for (size_t i = 0; i < kHandled.size(); ++i) {
    ::sigaction(kHandled[i].number, &earlier_actions[i], nullptr);
  }
}

bool StopSignal::requested() const { return first_signal != 0; }

const char* StopSignal::name() const {
  for (const Handled& handled : kHandled) {
    if (handled.number == first_signal) return handled.name;
  }
  return "";
}

}  // namespace sluice
