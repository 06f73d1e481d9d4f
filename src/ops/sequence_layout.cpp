#include "ops/sequence_layout.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "ops/sequence_layout_derived.h"

namespace sluice::ops {

int64_t SequenceLayout::longest() const {
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences(); ++s) longest = std::max(longest, offsets[s + 1] - offsets[s]);
  return longest;
}

const SequenceIndices& SequenceLayout::indices() const {
  if (derived == nullptr) {
    derived = std::make_shared<Derived>();
    SequenceIndices& indices = derived->indices;
    indices.offsets = offsets;
    indices.state_in = state_in;
    indices.state_out = state_out;
    indices.chunk_offsets = kernels::chunk_offsets(offsets.data(), sequences(), kChunkTokens);
    std::vector<int64_t> begin(slots, 0), end(slots, 0), passes(slots, 0);
    for (int64_t s = 0; s < sequences(); ++s) {
      const int64_t slot = state_out[s];
      if (slot < 0) continue;
      begin[slot] = offsets[s], end[slot] = offsets[s + 1];
      passes[slot] = state_in[s] == slot ? 1 : 0;
    }
    indices.row_begin = std::move(begin);
    indices.row_end = std::move(end);
    indices.row_passes = std::move(passes);
  }
  return derived->indices;
}

SequenceLayout SequenceLayout::uniform(int64_t rows, int64_t length) { return cut_at(rows, length, {}); }

SequenceLayout SequenceLayout::cut_at(int64_t rows, int64_t length, const std::vector<int32_t>& starts) {
  SLUICE_ASSERT(starts.empty() || static_cast<int64_t>(starts.size()) == rows * length);
  SequenceLayout layout;
  layout.slots = rows;
  layout.offsets.push_back(0);
  for (int64_t row = 0; row < rows; ++row) {
    layout.state_in.push_back(!starts.empty() && length > 0 && starts[row * length] != 0 ? -1 : row);
    for (int64_t t = 1; !starts.empty() && t < length; ++t) {
      if (starts[row * length + t] == 0) continue;
      layout.offsets.push_back(row * length + t);
      layout.state_out.push_back(-1);
      layout.state_in.push_back(-1);
    }
    layout.offsets.push_back((row + 1) * length);
    layout.state_out.push_back(row);
  }
  return layout;
}

void SequenceLayout::validate(int64_t tokens) const {
  SLUICE_ASSERT(state_out.size() == state_in.size() && offsets.size() == state_in.size() + 1);
  SLUICE_CHECK(offsets.front() == 0 && offsets.back() == tokens, kInternal,
               "sequence offsets run from {} to {}, the batch has {} tokens", offsets.front(), offsets.back(),
               tokens);
  std::vector<int64_t> left;
  for (int64_t s = 0; s < sequences(); ++s) {
    SLUICE_CHECK(offsets[s] <= offsets[s + 1], kInternal, "sequence {} ends before it begins", s);
    SLUICE_CHECK(state_in[s] >= -1 && state_in[s] < slots && state_out[s] >= -1 && state_out[s] < slots,
                 kInternal, "sequence {} names state slots {} and {} of {}", s, state_in[s], state_out[s],
                 slots);
    if (state_out[s] >= 0) left.push_back(state_out[s]);
  }
  std::sort(left.begin(), left.end());
  SLUICE_CHECK(std::adjacent_find(left.begin(), left.end()) == left.end(), kInternal,
               "two sequences leave their state in one slot");
}

}  // namespace sluice::ops
