// How the N tokens of a packed batch fall into sequences, and where each sequence's recurrent state comes
// from and goes to. A batch of B rows of T tokens has B sequences; rows cut at document boundaries have more.
//
// States live in slots, one a row of the batch: a sequence that continues its row reads the row's slot, one
// that begins a document starts from zero, and the last sequence of a row leaves its state for the next
// segment.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/index_array.h"

namespace sluice::ops {

// The tokens of a chunk: what chunked kernels cut sequences into.
inline constexpr int64_t kChunkTokens = 64;

// What kernels read of a layout.
struct SequenceIndices {
  IndexArray offsets, state_in, state_out;  // as in SequenceLayout
  IndexArray chunk_offsets;                 // [S + 1]: chunks of kChunkTokens before each sequence
  // [slots]: the tokens of the sequence that leaves its state in the slot, and whether it also starts from
  // it.
  IndexArray row_begin, row_end, row_passes;
};

class SequencePart;

struct SequenceLayout {
  std::vector<int64_t> offsets;    // [S + 1]: sequence s is tokens [offsets[s], offsets[s + 1]); may be empty
  std::vector<int64_t> state_in;   // [S]: slot of the initial state, or -1 for a zero state
  std::vector<int64_t> state_out;  // [S]: slot the final state is left in, or -1
  int64_t slots = 0;               // rows of the state tensors
  // Whether final states may take the memory of the initial ones, which nobody else then needs. An op that
  // can does so, where nothing is recorded and each sequence ends in the slot that it starts from.
  bool reuses_states = false;
  // Where the rows are parts of longer ones over several processes (ops/sequence_part.h): the slots' states
  // then come from the part before. Null: they are whole.
  std::shared_ptr<const SequencePart> part;
  // [slots], with a part: so many tokens of the parts before belong to the sequence that goes on in the slot.
  std::vector<int64_t> before;

  int64_t sequences() const { return static_cast<int64_t>(state_in.size()); }
  int64_t tokens() const { return offsets.empty() ? 0 : offsets.back(); }
  int64_t longest() const;
  // Made with the first call and shared by copies: the layout must not change afterwards.
  const SequenceIndices& indices() const;

  // B rows of T tokens each; slot b is row b.
  static SequenceLayout uniform(int64_t rows, int64_t length);
  // The same rows, each cut where `starts` [rows * length] is non-zero (the first token of a row is no cut by
  // itself: it continues the row's slot unless flagged).
  static SequenceLayout cut_at(int64_t rows, int64_t length, const std::vector<int32_t>& starts);
  // Error(kInternal) when offsets or slots are inconsistent, or the tokens are not `tokens`.
  void validate(int64_t tokens) const;

  // What was derived from the layout before, so that the layers of a model do so once (see indices() and
  // rotary_table_of).
  struct Derived;
  mutable std::shared_ptr<Derived> derived;
};

}  // namespace sluice::ops
