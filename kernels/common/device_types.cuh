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

// N elements of T that lie together, moved by one instruction.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T elements[N];

  __device__ __forceinline__ static Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ __forceinline__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
  __device__ __forceinline__ float operator[](int i) const { return as_float(elements[i]); }
  __device__ __forceinline__ void set(int i, float value) { elements[i] = from_float<T>(value); }
};

// Elements of T in 16 bytes.
template <class T>
inline constexpr int PACK = 16 / static_cast<int>(sizeof(T));

// Whether rows that start at `pointer` and lie `stride` elements apart may be read N elements at a time.
template <int N, class T>
bool can_pack(const T* pointer, int64_t stride, int64_t columns) {
  return reinterpret_cast<uintptr_t>(pointer) % (N * sizeof(T)) == 0 && stride % N == 0 && columns % N == 0;
}

}  // namespace sluice::kernels
