// The running softmax of a warp's rows, on scores as mma leaves them: lane 4 g + j holds of each 16 x 8 tile
// the columns 2 j and 2 j + 1 of rows g and g + 8.
#pragma once

#include "kernels/attention/attention_place.cuh"

namespace sluice::kernels {

// Sets scores [16 * MT, 8 * N] outside columns first .. last to -infinity; bounds(row, first, last).
template <int MT, int N, class Bounds>
__device__ __forceinline__ void keep_columns(float (&score)[MT][N][4], Bounds bounds, int lane) {
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int first, last;
      bounds(mt * 16 + half * 8 + lane / 4, first, last);
      first -= lane % 4 * 2, last -= lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + e;
          if (column < first || column > last) score[mt][n][2 * half + e] = -INFINITY;
        }
      }
    }
  }
}

// The four lanes that share a row.
__device__ __forceinline__ float row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// Sums are relative to exp(reference), which follows the maximum only when that has risen by more than a
// factor of 2^kSlack: most tiles then rescale nothing, and no exponential passes 2^kSlack.
template <int MT>
class OnlineSoftmax {
 public:
  // factor: what makes scores exponents of 2.
  __device__ __forceinline__ explicit OnlineSoftmax(float factor) : factor_(factor) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) reference_[mt][half] = kLowest, sum_[mt][half] = 0.f;
    }
  }

  // Scores become exponentials; the sums o [16 * MT, 8 * M] are rescaled where the reference rises.
  template <int N, int M>
  __device__ __forceinline__ void absorb(float (&score)[MT][N][4], float (&o)[MT][M][4]) {
    follow(score, o);
    exponentiate(score);
  }

  // The first half of it: the reference.
  template <int N, int M>
  __device__ __forceinline__ void follow(const float (&score)[MT][N][4], float (&o)[MT][M][4]) {
    float maximum[MT][2];
    bool risen = false;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float highest = fmaxf(score[mt][0][2 * half], score[mt][0][2 * half + 1]);
#pragma unroll
        for (int n = 1; n < N; ++n) {
          highest = fmaxf(highest, fmaxf(score[mt][n][2 * half], score[mt][n][2 * half + 1]));
        }
        maximum[mt][half] = fmaxf(row_maximum(highest), reference_[mt][half]);
        risen = risen || (maximum[mt][half] - reference_[mt][half]) * factor_ > kSlack;
      }
    }
    if (__any_sync(~0u, risen)) rescale(maximum, o);
  }

  // The second.
  template <int N>
  __device__ __forceinline__ void exponentiate(float (&score)[MT][N][4]) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float offset = reference_[mt][half] * factor_;
        float sum = sum_[mt][half];
#pragma unroll
        for (int n = 0; n < N; ++n) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            score[mt][n][e] = exp2_approximate(fmaf(score[mt][n][e], factor_, -offset));
            sum += score[mt][n][e];
          }
        }
        sum_[mt][half] = sum;
      }
    }
  }

  // Divides the sums by those of the exponentials.
  template <int M>
  __device__ __forceinline__ void finish(float (&o)[MT][M][4]) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum_[mt][half] = row_sum(sum_[mt][half]);
        const float inverse = 1.f / sum_[mt][half];
#pragma unroll
        for (int m = 0; m < M; ++m) o[mt][m][2 * half] *= inverse, o[mt][m][2 * half + 1] *= inverse;
      }
    }
  }

  // After finish: base-2 logarithm of the sum of exponentials; -infinity for a row that saw no key.
  __device__ __forceinline__ float logarithm(int mt, int half) const {
    return fmaf(reference_[mt][half], factor_, log2f(sum_[mt][half]));
  }

 private:
  static constexpr float kSlack = 8.f;

  template <int M>
  __device__ __forceinline__ void rescale(const float (&maximum)[MT][2], float (&o)[MT][M][4]) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float shrink = exp2_approximate((reference_[mt][half] - maximum[mt][half]) * factor_);
        reference_[mt][half] = maximum[mt][half];
        sum_[mt][half] *= shrink;
#pragma unroll
        for (int m = 0; m < M; ++m) o[mt][m][2 * half] *= shrink, o[mt][m][2 * half + 1] *= shrink;
      }
    }
  }

  float factor_;
  float reference_[MT][2];  // in units of scores
  float sum_[MT][2];        // this lane's columns alone, until finish
};

}  // namespace sluice::kernels
