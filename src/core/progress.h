// One live line on standard error: done of total, speed, time left. Silent where standard error is no
// terminal, apart from a plain line every half minute, so that logs stay short and nothing looks hung.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

class Progress {
 public:
  enum class Mode { kAuto, kOn, kOff };

  // `total` in `unit`s ("MB", "tokens", "steps"); 0 when unknown. `done_before` of them were done by an
  // earlier run.
  Progress(std::string title, double total, std::string unit, Mode mode = Mode::kAuto,
           double done_before = 0);
  ~Progress();  // clears the live line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Redraws at most ten times a second. `detail` is shown after the counts.
  void update(double done, std::string_view detail = {});

  // Erases the live line so that another message can be printed; the next update draws it again.
  static void clear_line();

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_;
  double total_;
  double done_before_;
  std::string unit_;
  bool live_;
  bool plain_;
  Clock::time_point start_;
  Clock::time_point last_drawn_;
};

// "1h02m", "3m20s", "12s".
std::string format_duration(double seconds);
// "987", "12.3K", "4.56M", "7.89G", "1.23T", "4.56P".
std::string format_count(double count);
// "512 B", "1.5 KiB", "31.6 GiB".
std::string format_bytes(double bytes);

}  // namespace sluice
