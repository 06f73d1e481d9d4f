// Functions of floats in device code. None gives NaN for a finite argument.
#pragma once

namespace sluice::kernels {

// log(1 + u) for 0 <= u <= 1 with a relative error of 1.5e-7, which logf(1 + u) has not for small u: a
// polynomial for log(1 + u) / u, interpolated at the Chebyshev nodes.
__device__ __forceinline__ float log_one_plus(float u) {
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

__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.0f) + log_one_plus(expf(-fabsf(x))); }

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

}  // namespace sluice::kernels
