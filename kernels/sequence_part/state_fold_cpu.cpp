#include <cmath>
#include <vector>

#include "kernels/sequence_part/state_fold.h"

namespace sluice::kernels::cpu {

template <class T>
void part_decay(const PartDecayParams<T>& p) {
#pragma omp parallel for
  for (int64_t slot = 0; slot < p.slots; ++slot) {
    T* decay = p.decay + slot * p.channels;
    std::vector<T> sum(static_cast<size_t>(p.channels), T(0));
    for (int64_t t = p.begin[slot]; p.g != nullptr && t < p.end[slot]; ++t) {
      const T* g = p.g + t * p.g_stride;
      for (int64_t c = 0; c < p.channels; ++c) sum[static_cast<size_t>(c)] += g[c];
    }
    for (int64_t c = 0; c < p.channels; ++c)
      decay[c] = p.passes[slot] != 0 ? std::exp(sum[static_cast<size_t>(c)]) : T(0);
  }
}

template <class U>
void state_fold(const StateFoldParams<U>& p) {
#pragma omp parallel for
  for (int64_t row = 0; row < p.rows; ++row) {
    U* folded = p.folded + row * p.columns;
    for (int64_t column = 0; column < p.columns; ++column) folded[column] = 0;
    for (int64_t i = 0; i < p.count; ++i) {
      const int64_t part = p.first + i * p.step;
      const U decay = p.decays[part * p.part_stride + row];
      const U* state = p.states + part * p.part_stride + row * p.columns;
      for (int64_t column = 0; column < p.columns; ++column)
        folded[column] = decay * folded[column] + state[column];
    }
  }
}

template void part_decay(const PartDecayParams<float>&);
template void part_decay(const PartDecayParams<double>&);
template void state_fold(const StateFoldParams<float>&);
template void state_fold(const StateFoldParams<double>&);

}  // namespace sluice::kernels::cpu
