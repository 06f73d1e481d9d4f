#include "kernels/loss/scaled_sum.h"

namespace sluice::kernels::cpu {

template <class T>
void scaled_sum(const ScaledSumParams<T>& p) {
  double sum = 0;
  for (int64_t i = 0; i < p.count; ++i) sum += static_cast<double>(p.x[i]);
  *p.y = static_cast<T>(p.factor * sum);
}

template void scaled_sum(const ScaledSumParams<float>&);
template void scaled_sum(const ScaledSumParams<double>&);

}  // namespace sluice::kernels::cpu
