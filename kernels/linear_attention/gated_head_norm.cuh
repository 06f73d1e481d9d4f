// How both passes of gated_head_norm spread heads over lanes: a group of 2^n <= 32 lanes holds one head of
// one row in registers, KEPT packs of N elements a lane; pack k of lane l starts at column (k * lanes + l) *
// N.
#pragma once

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/reduce.cuh"

namespace sluice::kernels {

inline constexpr int HEAD_THREADS = 128;
inline constexpr int64_t kLargestNormedHead = 1024;

// Where an item, a head of a row, lies. Most counts fit 32 bits, where a division takes a fifth of the time.
struct HeadPlace {
  int64_t row, head;

  __device__ __forceinline__ HeadPlace(int64_t item, int64_t items, int64_t heads) {
    if (items <= 0xffffffffll) {
      const uint32_t place = static_cast<uint32_t>(item), divisor = static_cast<uint32_t>(heads);
      row = place / divisor;
      head = place % divisor;
    } else {
      row = item / heads;
      head = item % heads;
    }
  }
};

// Calls body.template operator()<N, KEPT>(lanes) for heads of D elements.
template <class T, class Body>
void with_head_layout(const char* kernel, int64_t D, bool packable, Body&& body) {
  SLUICE_CHECK(D > 0 && D <= kLargestNormedHead, kUsage,
               "[{}] heads of {} elements on a GPU: 1 to {} are supported", kernel, D, kLargestNormedHead);
  constexpr int N = PACK<T>;
  const auto lanes_for = [&](int64_t elements) {
    int lanes = 1;
    while (lanes < WARP && lanes * elements < D) lanes *= 2;
    return lanes;
  };
  if (!packable) {
    body.template operator()<1, kLargestNormedHead / WARP>(WARP);
  } else if (D <= WARP * 2 * N) {
    body.template operator()<N, 2>(lanes_for(2 * N));
  } else {
    body.template operator()<N, kLargestNormedHead / (WARP * N)>(WARP);
  }
}

}  // namespace sluice::kernels
