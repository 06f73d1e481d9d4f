// Functions of floats in device code. None gives NaN for a finite argument. Those that are templates take the
// type the argument was stored in: next to bfloat16's rounding of 2^-9 shorter ways are exact enough.
#pragma once

#include <type_traits>

#include "core/bfloat16.h"

namespace sluice::kernels {

// One instruction each; tiny results are flushed to zero.
__device__ __forceinline__ float fast_power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

inline constexpr float kLog2E = 1.44269504f;

// Relative error 2e-7; bfloat16: |x| 2^-23.
template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return fast_power_of_two(x * kLog2E);
  } else {
    return expf(x);
  }
}

// Of x >= 1: relative error 2e-7.
template <class T>
__device__ __forceinline__ float reciprocal(float x) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return fast_reciprocal(x);
  } else {
    return __fdividef(1.0f, x);
  }
}

// log(1 + u) for 0 <= u <= 1 with a relative error of 1.5e-7 (bfloat16: 1e-5), which logf(1 + u) has not for
// small u: a polynomial for log(1 + u) / u, interpolated at the Chebyshev nodes.
template <class T>
__device__ __forceinline__ float log_one_plus(float u) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    float sum = -0.0239795726f;
    sum = fmaf(sum, u, 0.101500049f);
    sum = fmaf(sum, u, -0.210293695f);
    sum = fmaf(sum, u, 0.32529515f);
    sum = fmaf(sum, u, -0.499372602f);
    sum = fmaf(sum, u, 0.999991834f);
    return sum * u;
  }
  float sum = 0.00525345793f;
  sum = fmaf(sum, u, -0.0295885075f);
  sum = fmaf(sum, u, 0.0783616677f);
  sum = fmaf(sum, u, -0.136747703f);
  sum = fmaf(sum, u, 0.191114306f);
  sum = fmaf(sum, u, -0.248443693f);
  sum = fmaf(sum, u, 0.333192706f);
  sum = fmaf(sum, u, -0.499995023f);
  sum = fmaf(sum, u, 1.0f);
  return sum * u;
}

template <class T>
__device__ __forceinline__ float softplus(float x) {
  return fmaxf(x, 0.0f) + log_one_plus<T>(exponential<T>(-fabsf(x)));
}

template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  return reciprocal<T>(1.0f + exponential<T>(-x));
}

// The normal distribution function, with a relative error below 1e-6 on both sides: below 0 it is exp(-x^2 /
// 2) times a function that is smooth in s = 1 / (1 + |x| / 4), here a polynomial interpolated at the
// Chebyshev nodes.
template <class T>
__device__ __forceinline__ float normal_distribution(float x) {
  const float s = reciprocal<T>(fmaf(0.25f, fabsf(x), 1.0f));
  float sum = 0.020137284f;
  sum = fmaf(sum, s, -0.0823409855f);
  sum = fmaf(sum, s, 0.0980870873f);
  sum = fmaf(sum, s, -0.0339780189f);
  sum = fmaf(sum, s, 0.064880535f);
  sum = fmaf(sum, s, 0.0586176775f);
  sum = fmaf(sum, s, 0.0816628188f);
  sum = fmaf(sum, s, 0.0934614614f);
  sum = fmaf(sum, s, 0.0997365788f);
  sum = fmaf(sum, s, 0.0997355655f);
  const float tail = sum * s * exponential<T>(-0.5f * x * x);
  return x < 0.0f ? tail : 1.0f - tail;
}

}  // namespace sluice::kernels
