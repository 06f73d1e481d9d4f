// Which source each sample of a weighted mix comes from, as a pure function of the sample's index.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sluice {

// The weights become whole slots of a period that repeats for ever: exact where the shares are fractions with
// a common denominator up to kMaximumPeriod (3:1 has period 4, 0.7/0.2/0.1 period 10), otherwise rounded to
// kMaximumPeriod slots by largest remainder. Inside the period the slots are handed out by earliest deadline
// among the sources that are due (Tijdeman, "The chairman assignment problem", 1980), so that after any
// number of samples each source is within one sample of its share.
class Mix {
 public:
  static constexpr int64_t kMaximumPeriod = 16384;

  struct Place {
    int64_t source;
    int64_t index;  // how many samples of this source came before
  };

  // Weights are relative. Error(kUsage) naming `names[i]` for a weight that is not positive and finite, or
  // whose share is less than a slot.
  Mix(std::span<const double> weights, std::span<const std::string> names);

  Place place(int64_t sample) const;
  int64_t period() const { return static_cast<int64_t>(slots_.size()); }
  int64_t slots(int64_t source) const { return counts_[static_cast<size_t>(source)]; }

 private:
  void fill_slots(int64_t period);

  std::vector<int64_t> counts_;  // slots of each source in a period
  std::vector<Place> slots_;
};

}  // namespace sluice
