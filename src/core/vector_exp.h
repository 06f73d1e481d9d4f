// exp without branches, tables or library calls, so that loops over it become vector code whatever the C
// library offers, and give the same bits on every machine with fused multiply-add. Within 2 units in the last
// place. Results below the smallest normal number are 0: nobody misses them, and processors take a hundred
// cycles for each denormal operand. Above the largest number infinity; NaN stays NaN.
//
//   #pragma omp simd
//   for (int64_t i = 0; i < n; ++i) y[i] = vector_exp(x[i]);
#pragma once

#include <bit>
#include <cstdint>

namespace sluice {

// With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts, so that the product is exact): exp(x) =
// 2^n * exp(r), |r| <= ln(2) / 2, by its Taylor polynomial. 2^n is applied in two halves, so that results
// next to infinity come out right.
inline float vector_exp(float x) {
  constexpr float kLowest = -87.3365f;  // just above the log of the smallest normal number
  const bool vanishes = x < kLowest;
  x = vanishes ? kLowest : x;
  x = x > 90.0f ? 90.0f : x;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  constexpr float kRounder = 12582912.0f;
  const float shifted = x * 1.44269504088896341f + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - n * 0.693359375f) - n * -2.12194440054690583e-4f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRounder);
  const auto half = static_cast<uint32_t>(static_cast<int32_t>(exponent) >> 1);
  const float result =
      p * std::bit_cast<float>((half + 127u) << 23) * std::bit_cast<float>((exponent - half + 127u) << 23);
  return vanishes ? 0.0f : result;
}

inline double vector_exp(double x) {
  constexpr double kLowest = -708.396;
  const bool vanishes = x < kLowest;
  x = vanishes ? kLowest : x;
  x = x > 710.0 ? 710.0 : x;
  constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = x * 1.44269504088896340736 + kRounder;
  const double n = shifted - kRounder;
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const uint64_t exponent = std::bit_cast<uint64_t>(shifted) - std::bit_cast<uint64_t>(kRounder);
  const auto half = static_cast<uint64_t>(static_cast<int64_t>(exponent) >> 1);
  const double result = p * std::bit_cast<double>((half + 1023u) << 52) *
                        std::bit_cast<double>((exponent - half + 1023u) << 52);
  return vanishes ? 0.0 : result;
}

}  // namespace sluice
