// What connects the parts of a sequence whose state is linear in its start, S_end = Diag(D) S_start + S_own,
// when each part was walked by itself from zero: the decay D over a part, and the fold of the parts before
// one into the state it starts from,
//   S_start(p) = sum over j < p of Diag(D_{j+1} ... D_{p-1}) S_own(j).
// The gradient of a state goes the other way by the same fold. Sums in accumulate_t<T>, in the order of
// parts.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct PartDecayParams {
  int64_t slots = 0, channels = 0;
  int64_t longest = 0;               // tokens between a slot's begin and end, at most
  const T* g = nullptr;              // [N, channels] log decays, or null: no decay
  int64_t g_stride = 0;              // 0: one row for all tokens
  const int64_t* begin = nullptr;    // [slots]: tokens [begin, end) are the last sequence of the slot's row
  const int64_t* end = nullptr;      // [slots]
  const int64_t* passes = nullptr;   // [slots]: 1 when that sequence goes on from the slot's state, else 0
  accumulate_t<T>* decay = nullptr;  // [slots, channels]: e^(sum of g), or 0 where nothing passes
  accumulate_t<T>* sums = nullptr;   // CUDA: scratch of part_decay_sums() elements
  Stream stream = nullptr;
};

// U is float or double.
template <class U>
struct StateFoldParams {
  int64_t rows = 0, columns = 0;  // of a part's states; a row decays by one factor
  int64_t part_stride = 0;        // elements from one part's states, or decays, to the next one's
  const U* states = nullptr;      // [parts, rows, columns]
  const U* decays = nullptr;      // [parts, rows]
  int64_t first = 0, count = 0;   // parts first, first + step, ...: each is decayed by the ones after it
  int64_t step = 1;               // 1 or -1
  U* folded = nullptr;            // [rows, columns]
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void part_decay(const PartDecayParams<T>& params);
template <class U>
void state_fold(const StateFoldParams<U>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void part_decay(const PartDecayParams<T>& params);
template <class T>
int64_t part_decay_sums(const PartDecayParams<T>& params);
template <class U>
void state_fold(const StateFoldParams<U>& params);
}  // namespace cuda

}  // namespace sluice::kernels
