#include "tensor/free_ranges.h"

#include "core/error.h"

namespace sluice {

void FreeRanges::insert(int64_t begin, int64_t size) {
  size_at_.emplace(begin, size);
  by_size_.emplace(size, begin);
  total_ += size;
}

void FreeRanges::erase(std::map<int64_t, int64_t>::iterator range) {
  by_size_.erase({range->second, range->first});
  total_ -= range->second;
  size_at_.erase(range);
}

void FreeRanges::give(int64_t begin, int64_t size) {
  const auto next = size_at_.lower_bound(begin);
  if (next != size_at_.end()) {
    SLUICE_ASSERT(begin + size <= next->first);
    if (begin + size == next->first) {
      size += next->second;
      erase(next);
    }
  }
  auto previous = size_at_.lower_bound(begin);
  if (previous != size_at_.begin()) {
    --previous;
    SLUICE_ASSERT(previous->first + previous->second <= begin);
    if (previous->first + previous->second == begin) {
      begin = previous->first;
      size += previous->second;
      erase(previous);
    }
  }
  insert(begin, size);
}

std::optional<int64_t> FreeRanges::take(int64_t size) {
  const auto found = by_size_.lower_bound({size, 0});
  if (found == by_size_.end()) return std::nullopt;
  const auto [available, begin] = *found;
  erase(size_at_.find(begin));
  if (available > size) insert(begin + size, available - size);
  return begin;
}

bool FreeRanges::contains(int64_t position) const {
  const auto next = size_at_.upper_bound(position);
  if (next == size_at_.begin()) return false;
  const auto range = std::prev(next);
  return position < range->first + range->second;
}

int64_t FreeRanges::free_before(int64_t end) const {
  const auto next = size_at_.lower_bound(end);
  if (next == size_at_.begin()) return 0;
  const auto last = std::prev(next);
  return last->first + last->second == end ? last->second : 0;
}

}  // namespace sluice
