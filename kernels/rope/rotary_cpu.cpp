#include "kernels/rope/rotary.h"

#include <cmath>
#include <vector>

namespace sluice::kernels::cpu {
namespace {

// A position is 64 * coarse + fine, and cos and sin of the sum follow from those of the parts: 64 times fewer
// calls of libm, at an error of a few 1e-16. An entry depends on its position alone, not on its neighbours.
constexpr int64_t kFine = 64;

struct Turn {
  double cosine, sine;
};

Turn turn_by(double angle) { return {std::cos(angle), std::sin(angle)}; }

}  // namespace

template <class T>
void rotary_table(const RotaryTableParams<T>& p) {
  std::vector<bool> needed(kFine, false);
  for (int64_t n = 0; n < p.positions; ++n) needed[static_cast<size_t>(p.position[n] % kFine)] = true;
  std::vector<Turn> fine(static_cast<size_t>(kFine * p.half));
  for (int64_t f = 0; f < kFine; ++f) {
    if (!needed[static_cast<size_t>(f)]) continue;
    for (int64_t i = 0; i < p.half; ++i) {
      fine[static_cast<size_t>(f * p.half + i)] = turn_by(static_cast<double>(f) * p.inverse_frequencies[i]);
    }
  }
#pragma omp parallel if (p.positions * p.half > 4096)
  {
    std::vector<Turn> coarse(static_cast<size_t>(p.half));
    int64_t coarse_of = -1;
#pragma omp for
    for (int64_t n = 0; n < p.positions; ++n) {
      const int64_t c = p.position[n] / kFine, f = p.position[n] % kFine;
      if (c != coarse_of) {
        for (int64_t i = 0; i < p.half; ++i) {
          coarse[static_cast<size_t>(i)] = turn_by(static_cast<double>(c * kFine) * p.inverse_frequencies[i]);
        }
        coarse_of = c;
      }
      for (int64_t i = 0; i < p.half; ++i) {
        const Turn a = coarse[static_cast<size_t>(i)], b = fine[static_cast<size_t>(f * p.half + i)];
        p.cosines[n * p.half + i] = static_cast<T>(a.cosine * b.cosine - a.sine * b.sine);
        p.sines[n * p.half + i] = static_cast<T>(a.sine * b.cosine + a.cosine * b.sine);
      }
    }
  }
}

template <class T>
void rotary(const RotaryParams<T>& p) {
#pragma omp parallel for if (p.rows * p.heads * p.half > 8192)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T* cosines = p.cosines + p.place[row] * p.half;
    const T* sines = p.sines + p.place[row] * p.half;
    const T sign = p.inverse ? T(-1) : T(1);
    for (int64_t head = 0; head < p.heads; ++head) {
      const T* x = p.x + row * p.x_stride + head * 2 * p.half;
      T* y = p.y + row * p.y_stride + head * 2 * p.half;
#pragma omp simd
      for (int64_t i = 0; i < p.half; ++i) {
        const T sine = sign * sines[i];
        const T first = x[i] * cosines[i] - x[i + p.half] * sine;
        const T second = x[i + p.half] * cosines[i] + x[i] * sine;
        y[i] = p.accumulate ? y[i] + first : first;
        y[i + p.half] = p.accumulate ? y[i + p.half] + second : second;
      }
    }
  }
}

template void rotary_table(const RotaryTableParams<float>&);
template void rotary_table(const RotaryTableParams<double>&);
template void rotary(const RotaryParams<float>&);
template void rotary(const RotaryParams<double>&);

}  // namespace sluice::kernels::cpu
