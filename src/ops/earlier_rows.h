// What attention over parts of sequences (ops/sequence_part.h) looks back at: rows of the parts before, which
// other processes have.
#pragma once

#include <memory>
#include <vector>

#include "autograd/variable.h"
#include "ops/index_array.h"
#include "ops/sequence_layout.h"

namespace sluice::ops {

class EarlierRows {
 public:
  // Of a layout with a part and as many tokens in each slot; window as in SoftmaxAttentionOptions. Every
  // process of the group has the same slots, tokens and window.
  EarlierRows(const SequenceLayout& layout, int64_t window);

  // x [N, C] -> [M, C]: the rows of each sequence behind those of its beginning in earlier parts, all of them
  // or those that the window reaches. Gradients flow to the processes whose rows they are; each adds them up
  // in the order of parts. All processes of the group call it, in forward and in backward.
  Variable join(const Variable& x) const;
  const IndexArray& offsets() const { return offsets_; }  // [S + 1] of the M rows

 private:
  // Rows that stay in order: `from` among those that all parts send [parts, slots, sent], or among the own.
  struct Piece {
    int64_t from = 0, to = 0, count = 0;
  };
  Tensor gather_ends(const Tensor& x) const;
  Tensor gradient(const Tensor& d_joined) const;

  std::shared_ptr<const SequencePart> part_;
  int64_t slots_, length_;  // tokens of a slot
  int64_t sent_;            // of these the last ones, which later parts may want
  std::vector<Piece> earlier_, own_;
  IndexArray offsets_;
};

// Made with the first call and kept with the layout.
const EarlierRows& earlier_rows_of(const SequenceLayout& layout, int64_t window);

}  // namespace sluice::ops
