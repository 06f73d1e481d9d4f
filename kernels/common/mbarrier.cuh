// Barriers in shared memory that count arrivals and bytes of bulk copies (sm_90), phase after phase; bulk
// copies; the blocks of a cluster.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// By one thread; fence_barrier_init and a barrier of the block must follow before others use it.
__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// Arrivals of a warp that hands something over: of one lane for all. compute-sanitizer's racecheck (2025.3)
// follows lane by lane and takes the others' accesses for races; in a build for it they all arrive.
#ifdef SLUICE_RACECHECK
inline constexpr int ARRIVALS_OF_WARP = 32;
#else
inline constexpr int ARRIVALS_OF_WARP = 1;
#endif
// By all lanes of a warp that have written, or have read.
__device__ __forceinline__ void barrier_arrive_of_warp(uint32_t barrier, int lane) {
  __syncwarp();
  if (ARRIVALS_OF_WARP > 1 || lane == 0) barrier_arrive(barrier);
}
// By the other lanes of a warp whose first one arrives for bytes, or for what it alone has written.
__device__ __forceinline__ void barrier_arrive_beside(uint32_t barrier, int lane) {
  if (ARRIVALS_OF_WARP > 1 && lane != 0) barrier_arrive(barrier);
}
// Arrives, and makes the phase wait for as many bytes of copies too.
__device__ __forceinline__ void barrier_arrive_for_bytes(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// At the barrier in the same place of a block of the cluster.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, int block) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(barrier),
      "r"(block)
      : "memory");
}
// As barrier_arrive_of_warp, at the barriers of all blocks of the cluster.
__device__ __forceinline__ void barrier_arrive_of_warp_at_all(uint32_t barrier, int blocks, int lane) {
  __syncwarp();
  if constexpr (ARRIVALS_OF_WARP > 1) {
    for (int block = 0; block < blocks; ++block) barrier_arrive_at(barrier, block);
  } else if (lane < blocks) {
    barrier_arrive_at(barrier, lane);
  }
}
// Waits until the phase of that parity has ended; a fresh barrier counts as past parity 1.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// Ordinary writes to shared memory before, this in each writing thread, then a barrier: now wgmma and bulk
// copies may read them.
__device__ __forceinline__ void fence_shared_for_tensor_cores() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// Copies bytes, a multiple of 16, to shared memory and counts them at the barrier.
__device__ __forceinline__ void copy_bulk(uint32_t shared, const void* global, int bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
          shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
}
// The same to the same places of all blocks of the cluster in `mask`.
__device__ __forceinline__ void copy_bulk_to_cluster(uint32_t shared, const void* global, int bytes,
                                                     uint32_t barrier, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
      "[%3], "
      "%4;\n" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "h"(mask)
      : "memory");
}

// Bulk copies of shared memory, bytes a multiple of 16, to global memory, or their floats added to those
// there. In flight until they are committed as a group and waited for.
__device__ __forceinline__ void store_bulk(void* global, uint32_t shared, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n" ::"l"(global), "r"(shared),
               "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void add_bulk(float* global, uint32_t shared, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;\n" ::"l"(global),
               "r"(shared), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_bulk() { asm volatile("cp.async.bulk.commit_group;\n" ::: "memory"); }
// All groups have read shared memory.
__device__ __forceinline__ void wait_for_bulk_reads() {
  asm volatile("cp.async.bulk.wait_group.read 0;\n" ::: "memory");
}
// All groups are done: this thread sees what they wrote.
__device__ __forceinline__ void wait_for_bulk() {
  asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory");
}
// Orders this thread's ordinary accesses and those of its bulk copies, in all memory.
__device__ __forceinline__ void fence_bulk() { asm volatile("fence.proxy.async;\n" ::: "memory"); }

__device__ __forceinline__ int block_of_cluster() {
  int block;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(block));
  return block;
}
__device__ __forceinline__ int blocks_of_cluster() {
  int blocks;
  asm("mov.u32 %0, %%cluster_nctarank;\n" : "=r"(blocks));
  return blocks;
}
// By all threads of the cluster.
__device__ __forceinline__ void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n" ::: "memory");
}

}  // namespace sluice::kernels
