// Sets of moments as sorted, disjoint intervals.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::profile {

struct Interval {
  int64_t begin = 0, end = 0;
  bool operator==(const Interval&) const = default;
};

// Sorted and joined where they overlap or touch; empty ones are dropped.
std::vector<Interval> united(std::vector<Interval> intervals);
// What two united sets have in common.
std::vector<Interval> intersection(const std::vector<Interval>& a, const std::vector<Interval>& b);
// Of a united set.
int64_t total_length(const std::vector<Interval>& intervals);

}  // namespace sluice::profile
