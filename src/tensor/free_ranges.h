// The free stretches of an address range, for an allocator: smallest fit first, neighbours merged.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace sluice {

class FreeRanges {
 public:
  // Adds [begin, begin + size), which must not be free yet.
  void give(int64_t begin, int64_t size);
  // The beginning of the smallest stretch of at least `size`, the first of equal ones; what is left of it
  // stays free.
  std::optional<int64_t> take(int64_t size);
  // Free bytes that end at `end`.
  int64_t free_before(int64_t end) const;
  int64_t total() const { return total_; }
  // Beginnings and sizes, ascending.
  const std::map<int64_t, int64_t>& ranges() const { return size_at_; }
  bool contains(int64_t position) const;

 private:
  void insert(int64_t begin, int64_t size);
  void erase(std::map<int64_t, int64_t>::iterator range);

  std::map<int64_t, int64_t> size_at_;             // beginning to size
  std::set<std::pair<int64_t, int64_t>> by_size_;  // (size, beginning)
  int64_t total_ = 0;
};

}  // namespace sluice
