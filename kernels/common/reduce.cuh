// Sums and maxima over the threads of a warp or a block, the same bits in every thread and every run.
#pragma once

namespace sluice::kernels {

inline constexpr int WARP = 32;

struct Sum {
  template <class T>
  __device__ __forceinline__ static T identity() {
    return T(0);
  }
  template <class T>
  __device__ __forceinline__ static T of(T a, T b) {
    return a + b;
  }
};
// NaN drops out.
struct Maximum {
  template <class T>
  __device__ __forceinline__ static T identity() {
    return -INFINITY;
  }
  template <class T>
  __device__ __forceinline__ static T of(T a, T b) {
    return fmaxf(a, b);
  }
};

// Over groups of `width` neighbouring lanes, a power of two. All lanes of the warp must call.
template <class Operation, class T>
__device__ __forceinline__ T reduce_lanes(T value, int width = WARP) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    value = Operation::of(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// Over a block of whole warps; all its threads must call. `shared` [32] must not be in use by an earlier call
// that some thread may still be in: alternate two of them.
template <class Operation, class T>
__device__ __forceinline__ T reduce_block(T value, T* shared) {
  value = reduce_lanes<Operation>(value);
  const int warps = blockDim.x / WARP;
  if (warps == 1) return value;
  const int lane = threadIdx.x % WARP;
  if (lane == 0) shared[threadIdx.x / WARP] = value;
  __syncthreads();
  return reduce_lanes<Operation>(lane < warps ? shared[lane] : Operation::template identity<T>());
}

}  // namespace sluice::kernels
