#include "train/fault.h"

#include <charconv>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "core/environment.h"
#include "core/error.h"

namespace sluice {
namespace {

std::optional<int64_t> parse_count(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

}  // namespace

FaultPlan FaultPlan::parse(std::string_view text) {
  FaultPlan plan;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    plan.faults_.push_back(parse_one(text.substr(0, comma)));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return plan;
}

FaultPlan FaultPlan::from_environment() { return parse(environment::text("SLUICE_FAULT", "")); }

FaultPlan::Fault FaultPlan::parse_one(std::string_view text) {
  const size_t at = text.find('@');
  const std::string_view name = text.substr(0, at);
  std::string_view place = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  std::optional<int64_t> count = 1;
  if (name == "kill" && place == "save") return {Kind::kKillInSave, 0};
  if (const size_t colon = place.find(':'); name == "nan" && colon != std::string_view::npos) {
    count = parse_count(place.substr(colon + 1));
    place = place.substr(0, colon);
  }
  const auto step = parse_count(place);
  if (step && count) {
    if (name == "nan") return {Kind::kNan, *step, *count};
    if (name == "flip") return {Kind::kFlip, *step};
    if (name == "kill") return {Kind::kKill, *step};
    if (name == "term") return {Kind::kTerminate, *step};
    if (name == "stop") return {Kind::kStop, *step};
    if (name == "hang") return {Kind::kHang, *step};
  }
  SLUICE_FAIL(
      kUsage,
      "SLUICE_FAULT: \"{}\" is none of nan@STEP, nan@STEP:COUNT, flip@STEP, kill@STEP, term@STEP, stop@STEP, "
      "hang@STEP and kill@save, with numbers from 1",
      text);
}

bool FaultPlan::nan_at(int64_t step) const {
  for (const Fault& fault : faults_) {
    if (fault.kind == Kind::kNan && step >= fault.step && step - fault.step < fault.count) return true;
  }
  return false;
}

bool FaultPlan::flip_at(int64_t step) const {
  for (const Fault& fault : faults_) {
    if (fault.kind == Kind::kFlip && fault.step == step) return true;
  }
  return false;
}

void FaultPlan::at_step_end(int64_t step) const {
  for (const Fault& fault : faults_) {
    if (fault.step != step) continue;
    if (fault.kind == Kind::kKill) ::raise(SIGKILL);
    if (fault.kind == Kind::kTerminate) ::raise(SIGTERM);
    if (fault.kind == Kind::kStop) ::raise(SIGSTOP);
    while (fault.kind == Kind::kHang) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

void FaultPlan::during_save() const {
  for (const Fault& fault : faults_) {
    if (fault.kind == Kind::kKillInSave) ::raise(SIGKILL);
  }
}

}  // namespace sluice
