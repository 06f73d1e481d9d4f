#include "train/stop_signal.h"

#include <array>
#include <csignal>
#include <cstddef>

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

int holders = 0;
std::array<struct sigaction, kHandled.size()> earlier_actions;

extern "C" void note_signal(int number) {
  if (first_signal == 0) first_signal = number;
}

}  // namespace

StopSignal::StopSignal() {
  if (holders++ > 0) return;
  first_signal = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  // Reads and writes go on after the first signal, and the handler is gone for the second.
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
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
