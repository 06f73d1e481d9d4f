// Element types in device code, and vector loads of them: 16 bytes at a time where pointers allow it.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "core/bfloat16.h"

namespace sluice::kernels {

__device__ __forceinline__ float as_float(float value) { return value; }
__device__ __forceinline__ float as_float(bfloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
  return bfloat16{__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}

// N elements of T that lie together, moved by one instruction (two where they are more than 16 bytes).
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T elements[N];

  __device__ __forceinline__ static Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ __forceinline__ static Pack of(const float (&values)[N]) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.elements[i] = from_float<T>(values[i]);
    return pack;
  }
  __device__ __forceinline__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
  __device__ __forceinline__ float operator[](int i) const { return as_float(elements[i]); }
  __device__ __forceinline__ void set(int i, float value) { elements[i] = from_float<T>(value); }
};

// Pairs of bfloat16 as words: the compiler gives 16-bit elements a register each.
template <int N>
requires(N % 2 == 0) struct alignas(N * sizeof(bfloat16)) Pack<bfloat16, N> {
  uint32_t words[N / 2];

  __device__ __forceinline__ static Pack load(const bfloat16* from) {
    return *reinterpret_cast<const Pack*>(from);
  }
  __device__ __forceinline__ static Pack of(const float (&values)[N]) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
      pack.words[i] = reinterpret_cast<const uint32_t&>(pair);
    }
    return pack;
  }
  __device__ __forceinline__ void store(bfloat16* to) const { *reinterpret_cast<Pack*>(to) = *this; }
  __device__ __forceinline__ float operator[](int i) const {
    return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
  }
  // Two values are rounded by one instruction: of() is cheaper.
  __device__ __forceinline__ void set(int i, float value) {
    const uint32_t bits = from_float<bfloat16>(value).bits;
    words[i / 2] = i % 2 == 0 ? (words[i / 2] & 0xffff0000u) | bits : (words[i / 2] & 0xffffu) | bits << 16;
  }
};

// A pack at `from` + `i`, or ones where there is no `from`: of a scale that may be missing.
template <int N>
__device__ __forceinline__ Pack<float, N> load_or_ones(const float* from, int64_t i) {
  if (from != nullptr) return Pack<float, N>::load(from + i);
  Pack<float, N> ones;
#pragma unroll
  for (int j = 0; j < N; ++j) ones.set(j, 1.0f);
  return ones;
}

// Elements of T in 16 bytes.
template <class T>
inline constexpr int PACK = 16 / static_cast<int>(sizeof(T));

// Whether rows that start at `pointer` and lie `stride` elements apart may be read N elements at a time.
template <int N, class T>
bool can_pack(const T* pointer, int64_t stride, int64_t columns) {
  return reinterpret_cast<uintptr_t>(pointer) % (N * sizeof(T)) == 0 && stride % N == 0 && columns % N == 0;
}

}  // namespace sluice::kernels
