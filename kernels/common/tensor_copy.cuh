// Bulk copies of tiles to shared memory by tensor_map.h's maps (sm_90), each by one thread; their bytes count
// at the barrier.
#pragma once

#include "kernels/common/tensor_map.h"

namespace sluice::kernels {

// By map_of_rows().
__device__ __forceinline__ void copy_box(uint32_t shared, const CUtensorMap* map, int column, int row,
                                         uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];\n" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
// By map_of_heads(), columns of one head.
__device__ __forceinline__ void copy_box(uint32_t shared, const CUtensorMap* map, int column, int head,
                                         int row, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4}], [%5];\n" ::"r"(shared),
      "l"(map), "r"(column), "r"(head), "r"(row), "r"(barrier)
      : "memory");
}

}  // namespace sluice::kernels
