// Faults on request, to test what a run survives. SLUICE_FAULT holds any of these, separated by commas; STEP
// is the number of the step in the log.
//
//   nan@STEP[:COUNT]   the gradients of COUNT (1) steps from STEP on become NaN
//   flip@STEP          the lowest bit of a weight changes at the end of STEP
//   kill@STEP          SIGKILL to this process when STEP is finished
//   term@STEP          SIGTERM likewise
//   stop@STEP          SIGSTOP likewise: the process stays, but does nothing
//   hang@STEP          likewise, its main thread sleeps for ever
//   kill@save          SIGKILL in the middle of the next save, when the weights are staged
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice {

class FaultPlan {
 public:
  FaultPlan() = default;                          // no faults
  static FaultPlan parse(std::string_view text);  // Error(kUsage) names the part that is none of the above
  static FaultPlan from_environment();

  bool nan_at(int64_t step) const;
  bool flip_at(int64_t step) const;
  void at_step_end(int64_t step) const;
  void during_save() const;

 private:
  enum class Kind { kNan, kFlip, kKill, kTerminate, kStop, kHang, kKillInSave };
  struct Fault {
    Kind kind;
    int64_t step = 0;
    int64_t count = 1;
  };
  static Fault parse_one(std::string_view text);

  std::vector<Fault> faults_;
};

}  // namespace sluice
