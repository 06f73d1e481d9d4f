#include "core/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>

namespace sluice {
namespace {

std::atomic<bool> line_is_drawn{false};

size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

}  // namespace

Progress::Progress(std::string title, double total, std::string unit, Mode mode, double done_before)
    : title_(std::move(title)),
      total_(total),
      done_before_(done_before),
      unit_(std::move(unit)),
      live_(mode != Mode::kOff && ::isatty(STDERR_FILENO) == 1),
      plain_(mode != Mode::kOff && !live_),
      start_(Clock::now()),
      last_drawn_(start_) {}

Progress::~Progress() { clear_line(); }

void Progress::update(double done, std::string_view detail) {
  const auto now = Clock::now();
  const double since_drawn = std::chrono::duration<double>(now - last_drawn_).count();
  if (!(live_ && since_drawn >= 0.1) && !(plain_ && since_drawn >= 30.0)) return;
  last_drawn_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double speed = elapsed > 0 ? (done - done_before_) / elapsed : 0;
  std::string text = title_ + "  " + format_count(done);
  if (total_ > 0) text += fmt::format("/{} {}  {:.0f}%", format_count(total_), unit_, 100.0 * done / total_);
  if (total_ <= 0) text += " " + unit_;
  text += fmt::format("  {} {}/s", format_count(speed), unit_);
  if (total_ > 0 && speed > 0) text += "  " + format_duration((total_ - done) / speed) + " left";
  if (!detail.empty()) text += fmt::format("  {}", detail);
  if (live_) {
    if (const size_t width = terminal_width(); text.size() >= width) text.resize(width - 1);
    std::fprintf(stderr, "\r\x1b[2K%s", text.c_str());
    std::fflush(stderr);
    line_is_drawn = true;
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

void Progress::clear_line() {
  if (line_is_drawn.exchange(false)) {
    std::fprintf(stderr, "\r\x1b[2K");
    std::fflush(stderr);
  }
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole >= 3600) return fmt::format("{}h{:02d}m", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{}m{:02d}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

std::string format_count(double count) {
  for (const auto& [scale, suffix] :
       {std::pair{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "K"}}) {
    if (std::abs(count) < scale) continue;
    const double scaled = count / scale;
    return fmt::format("{:.{}f}{}", scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0, suffix);
  }
  return fmt::format("{:.{}f}", count, count == std::floor(count) ? 0 : 1);
}

std::string format_bytes(double bytes) {
  const char* suffixes[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int index = 0;
  while (bytes >= 1024 && index < 4) {
    bytes /= 1024;
    ++index;
  }
  return fmt::format("{:.{}f} {}", bytes, index == 0 ? 0 : 1, suffixes[index]);
}

}  // namespace sluice
