#include "data/mix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace sluice {
namespace {

// Shares times `period` when all are whole numbers, up to the rounding of the weights themselves; else empty.
std::vector<int64_t> whole_slots(const std::vector<double>& shares, int64_t period) {
  std::vector<int64_t> counts;
  for (const double share : shares) {
    const double slots = share * static_cast<double>(period);
    const double nearest = std::round(slots);
    if (nearest < 1 || std::abs(slots - nearest) > 1e-9 * static_cast<double>(period)) return {};
    counts.push_back(static_cast<int64_t>(nearest));
  }
  if (std::accumulate(counts.begin(), counts.end(), int64_t{0}) != period) return {};
  return counts;
}

std::vector<int64_t> rounded_slots(const std::vector<double>& shares, int64_t period) {
  std::vector<int64_t> counts;
  std::vector<std::pair<double, size_t>> remainders;  // negated, so that sorting puts the largest first
  for (size_t i = 0; i < shares.size(); ++i) {
    const double slots = shares[i] * static_cast<double>(period);
    counts.push_back(static_cast<int64_t>(slots));
    remainders.emplace_back(static_cast<double>(counts.back()) - slots, i);
  }
  std::sort(remainders.begin(), remainders.end());
  int64_t left = period - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (size_t i = 0; left > 0; ++i, --left) ++counts[remainders[i % remainders.size()].second];
  return counts;
}

}  // namespace

Mix::Mix(std::span<const double> weights, std::span<const std::string> names) {
  SLUICE_ASSERT(!weights.empty() && weights.size() == names.size());
  double total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    SLUICE_CHECK(weights[i] > 0 && std::isfinite(weights[i]), kUsage,
                 "{}: weight {} of a data source must be positive and finite", names[i], weights[i]);
    total += weights[i];
  }
  SLUICE_CHECK(std::isfinite(total), kUsage, "the weights of the data sources add up to {}", total);
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / total);
  const auto sources = static_cast<int64_t>(weights.size());
  for (int64_t period = sources; counts_.empty() && period <= kMaximumPeriod; ++period) {
    counts_ = whole_slots(shares, period);
  }
  if (counts_.empty()) counts_ = rounded_slots(shares, kMaximumPeriod);
  for (size_t i = 0; i < counts_.size(); ++i) {
    SLUICE_CHECK(counts_[i] > 0, kUsage, "{}: weight {} is {:.2g} of the mix; the least share is 1/{}",
                 names[i], weights[i], shares[i], kMaximumPeriod);
  }
  fill_slots(std::accumulate(counts_.begin(), counts_.end(), int64_t{0}));
}

void Mix::fill_slots(int64_t period) {
  std::vector<int64_t> given(counts_.size(), 0);
  for (int64_t time = 0; time < period; ++time) {
    // Sample k of a source with c slots is due from floor(k * period / c) on, and by ceil((k + 1) * period /
    // c).
    int64_t chosen = -1, earliest = 0;
    for (size_t source = 0; source < counts_.size(); ++source) {
      const int64_t count = counts_[source], k = given[source];
      if (k == count || k * period >= (time + 1) * count) continue;
      const int64_t deadline = ((k + 1) * period + count - 1) / count;
      if (chosen < 0 || deadline < earliest) {
        chosen = static_cast<int64_t>(source);
        earliest = deadline;
      }
    }
    SLUICE_ASSERT(chosen >= 0);
    slots_.push_back({chosen, given[static_cast<size_t>(chosen)]++});
  }
}

Mix::Place Mix::place(int64_t sample) const {
  const Place& slot = slots_[static_cast<size_t>(sample % period())];
  return {slot.source, sample / period() * slots(slot.source) + slot.index};
}

}  // namespace sluice
