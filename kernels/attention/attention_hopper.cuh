// What the attention kernels of sm_90a share. A block is one warp that copies and groups of four warps that
// multiply. Each group owns 64 rows; tiles of the other side pass through rings in shared memory. Tiles are
// panels of 64 columns as in wgmma.cuh. Blocks live as long as the kernel and draw items of work from a
// counter.
#pragma once

#include "kernels/attention/attention_place.cuh"
#include "kernels/attention/attention_softmax.cuh"
#include "kernels/common/device_types.cuh"
#include "kernels/common/mbarrier.cuh"
#include "kernels/common/mma.cuh"
#include "kernels/common/tensor_copy.cuh"
#include "kernels/common/wgmma.cuh"

namespace sluice::kernels {

inline constexpr int GROUP_ROWS = 64, GROUP_THREADS = 128, GROUP_WARPS = 4;

template <int D, int ROWS>
struct PanelTile {
  static constexpr int PANELS = D / 64, PANEL_BYTES = ROWS * 128, BYTES = PANELS * PANEL_BYTES;
};

// Registers a thread of the copying and of the multiplying groups: 64 Ki in all.
template <int GROUPS>
inline constexpr int COPY_REGISTERS = GROUPS == 2 ? 24 : 32;
template <int GROUPS>
inline constexpr int MULTIPLY_REGISTERS = GROUPS == 2 ? 240 : 160;

// A place in a ring, and how often it has come round.
template <int STAGES>
struct RingPlace {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }
};

// Barriers of a ring: `full`, of the copying warp, and after them `empty`, of the multiplying ones.
template <int STAGES>
struct RingBarriers {
  static constexpr int BYTES = 16 * STAGES;
  uint32_t first;

  // Arrivals at each `full` and at each `empty`: of warps, and of single threads beside them.
  __device__ __forceinline__ void init(int full_warps, int empty_warps, int full_threads = 0,
                                       int empty_threads = 0) const {
#pragma unroll
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(first + 8 * i, full_warps * ARRIVALS_OF_WARP + full_threads);
      barrier_init(first + 8 * (STAGES + i), empty_warps * ARRIVALS_OF_WARP + empty_threads);
    }
  }
  __device__ __forceinline__ uint32_t full(const RingPlace<STAGES>& at) const { return first + 8 * at.stage; }
  __device__ __forceinline__ uint32_t empty(const RingPlace<STAGES>& at) const {
    return first + 8 * (STAGES + at.stage);
  }
  __device__ __forceinline__ void wait_full(const RingPlace<STAGES>& at) const {
    barrier_wait(full(at), at.phase);
  }
  __device__ __forceinline__ void wait_empty(const RingPlace<STAGES>& at) const {
    barrier_wait(empty(at), at.phase ^ 1);
  }
  // By all lanes of a warp whose reads are over.
  __device__ __forceinline__ void release(const RingPlace<STAGES>& at, int lane) const {
    barrier_arrive_of_warp(empty(at), lane);
  }
};

// Passes by `count` tiles of keys and values. In turns: a copying warp that waits to replace one kind brings
// no more of the other.
template <int STAGES>
__device__ __forceinline__ void skip_tiles(const RingBarriers<STAGES>& key_ring, RingPlace<STAGES>& keys,
                                           const RingBarriers<STAGES>& value_ring, RingPlace<STAGES>& values,
                                           int count, int lane) {
  for (; count > 0; --count, keys.advance(), values.advance()) {
    key_ring.wait_full(keys), key_ring.release(keys, lane);
    value_ring.wait_full(values), value_ring.release(values, lane);
  }
}

// Matrices that tiles are copied from.
struct MappedRows {
  const CUtensorMap* map;
  const bfloat16* data;
  int64_t stride;
};

// A whole tile, by one lane; its bytes count at the barrier.
template <int D, int ROWS>
__device__ __forceinline__ void copy_whole_tile(uint32_t tile, const MappedRows& from, int64_t row,
                                                int64_t column, uint32_t barrier) {
  using Tile = PanelTile<D, ROWS>;
#pragma unroll
  for (int i = 0; i < Tile::PANELS; ++i) {
    copy_box(tile + i * Tile::PANEL_BYTES, from.map, static_cast<int>(column) + 64 * i, static_cast<int>(row),
             barrier);
  }
}
// A tile of which only the first `rows` exist, zeros below them, by a warp: there, and seen by wgmma once the
// lanes have met. At a sequence's end, where a box would bring what follows it.
template <int D, int ROWS>
__device__ __forceinline__ void copy_part_of_tile(uint32_t tile, const MappedRows& from, int64_t row,
                                                  int64_t column, int rows, int lane) {
  using Tile = PanelTile<D, ROWS>;
  constexpr int PIECES = D / 8;
  const bfloat16* const corner = from.data + row * from.stride + column;
#pragma unroll 1
  for (int i = lane; i < ROWS * PIECES; i += 32) {
    const int r = i / PIECES, piece = i % PIECES;
    copy_async_16(tile + piece / 8 * Tile::PANEL_BYTES + r * 128 + (((piece ^ r) & 7) << 4),
                  r < rows ? corner + r * from.stride + piece * 8 : from.data, r < rows);
  }
  commit_copies();
  wait_for_copies<0>();
  fence_shared_for_tensor_cores();
}

// The next tile of one or two matrices (the second at `further` bytes) into a ring's place, by the copying
// warp.
template <int D, int ROWS, int COUNT>
__device__ __forceinline__ void copy_tiles(uint32_t tile, const MappedRows (&from)[COUNT], int64_t row,
                                           int64_t column, int rows, uint32_t barrier, int lane) {
  constexpr int BYTES = PanelTile<D, ROWS>::BYTES;
  if (rows >= ROWS) {
    if (lane == 0) {
      barrier_arrive_for_bytes(barrier, COUNT * BYTES);
#pragma unroll
      for (int i = 0; i < COUNT; ++i)
        copy_whole_tile<D, ROWS>(tile + i * BYTES, from[i], row, column, barrier);
    }
    barrier_arrive_beside(barrier, lane);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      copy_part_of_tile<D, ROWS>(tile + i * BYTES, from[i], row, column, rows, lane);
    barrier_arrive_of_warp(barrier, lane);
  }
  __syncwarp();
}

__device__ __forceinline__ void copy_float(uint32_t shared, const float* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(from), "r"(valid ? 4 : 0)
               : "memory");
}
// Arrives at the barrier when this lane's copies are there.
__device__ __forceinline__ void arrive_after_copies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(barrier) : "memory");
}

// The groups' own rows of COUNT matrices: per matrix and group a tile of 64 rows.
template <int D, int GROUPS, int COUNT>
__device__ __forceinline__ void copy_own_rows(uint32_t tile, const MappedRows (&from)[COUNT], int64_t row,
                                              int64_t column, int rows, uint32_t barrier, int lane) {
  constexpr int BYTES = PanelTile<D, GROUP_ROWS>::BYTES;
  const int whole = min(rows / GROUP_ROWS, GROUPS);
  for (int g = whole; g < GROUPS; ++g) {  // zeros, too, for groups without a row
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      copy_part_of_tile<D, GROUP_ROWS>(tile + (i * GROUPS + g) * BYTES, from[i], row + g * GROUP_ROWS, column,
                                       rows - g * GROUP_ROWS, lane);
    }
  }
  __syncwarp();
  if (lane == 0) {
    barrier_arrive_for_bytes(barrier, whole * COUNT * BYTES);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      for (int g = 0; g < whole; ++g) {
        copy_whole_tile<D, GROUP_ROWS>(tile + (i * GROUPS + g) * BYTES, from[i], row + g * GROUP_ROWS, column,
                                       barrier);
      }
    }
  }
  barrier_arrive_beside(barrier, lane);
  __syncwarp();
}

// Low words of wgmma's descriptors of tiles. Further along a tile they grow by the bytes / 16: one addition a
// product instead of a descriptor from scratch, which takes longer than a small product does.
__device__ __forceinline__ uint32_t tile_along_columns(uint32_t address) {
  return static_cast<uint32_t>(wgmma_tile_along_columns(address));
}
template <int D, int ROWS>
__device__ __forceinline__ uint32_t tile_along_rows(uint32_t address) {
  return static_cast<uint32_t>(wgmma_tile_along_rows(address, PanelTile<D, ROWS>::PANEL_BYTES));
}
__device__ __forceinline__ uint64_t descriptor(uint32_t low) {
  return (wgmma_tile_along_columns(0) & ~uint64_t{0xffffffff}) | low;
}

// c = a b^T: a [64, D], b [ROWS, D].
template <int D, int ROWS>
__device__ __forceinline__ void multiply_tiles(float (&c)[ROWS / 2], uint32_t a, uint32_t b) {
  const uint32_t a_word = tile_along_columns(a), b_word = tile_along_columns(b);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    wgmma(c, descriptor(a_word + (k / 4 * PanelTile<D, GROUP_ROWS>::PANEL_BYTES + k % 4 * 32) / 16),
          descriptor(b_word + (k / 4 * PanelTile<D, ROWS>::PANEL_BYTES + k % 4 * 32) / 16), k > 0);
  }
}
// The same with a in registers, which spares the reads of a: with tiles of 64 they take as long as b's.
template <int D, int ROWS>
__device__ __forceinline__ void multiply_tiles(float (&c)[ROWS / 2], const uint32_t (&a)[D / 16][4],
                                               uint32_t b) {
  const uint32_t word = tile_along_columns(b);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    wgmma(c, a[k], descriptor(word + (k / 4 * PanelTile<D, ROWS>::PANEL_BYTES + k % 4 * 32) / 16), k > 0);
  }
}
// A warp's 16 rows of a [64, D] tile as factors.
template <int D>
__device__ __forceinline__ void load_factors(uint32_t (&a)[D / 16][4], uint32_t tile, int warp_row,
                                             int lane) {
  const int row = warp_row + lane % 16;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    load_matrix_x4(a[k], tile + k / 4 * PanelTile<D, GROUP_ROWS>::PANEL_BYTES + row * 128 +
                             (((2 * k + lane / 16) ^ row) & 7) * 16);
  }
}
// Copies that ptxas cannot tell from their originals' change: given the originals in a loop, ptxas 13.0 puts
// other factors of the loop into their registers. nothing: 0, but not to the compiler, and of this round.
template <int COUNT>
__device__ __forceinline__ void copy_factors(uint32_t (&to)[COUNT][4], const uint32_t (&from)[COUNT][4],
                                             uint32_t nothing) {
#pragma unroll
  for (int k = 0; k < COUNT; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      asm volatile("xor.b32 %0, %1, %2;\n" : "=r"(to[k][i]) : "r"(from[k][i]), "r"(nothing) : "memory");
    }
  }
}
// c += a b: a [64, ROWS] in registers, b [ROWS, D].
template <int D, int ROWS>
__device__ __forceinline__ void add_product(float (&c)[D / 2], const uint32_t (&a)[ROWS / 16][4],
                                            uint32_t b) {
  const uint32_t word = tile_along_rows<D, ROWS>(b);
#pragma unroll
  for (int k = 0; k < ROWS / 16; ++k) wgmma<1>(c, a[k], descriptor(word + k * (2048 / 16)));
}
// The other way round of load_factors.
template <int D>
__device__ __forceinline__ void store_factors(uint32_t tile, const uint32_t (&a)[D / 16][4], int warp_row,
                                              int lane) {
  const int row = warp_row + lane % 16;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    store_matrix_x4(tile + k / 4 * PanelTile<D, GROUP_ROWS>::PANEL_BYTES + row * 128 +
                        (((2 * k + lane / 16) ^ row) & 7) * 16,
                    a[k]);
  }
}
// Sums as factors of the next product.
template <int COUNT>
__device__ __forceinline__ void pack_factors(uint32_t (&a)[COUNT / 8][4], const float (&x)[COUNT]) {
#pragma unroll
  for (int k = 0; k < COUNT / 8; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[k][i] = pack_bfloat16(x[8 * k + 2 * i], x[8 * k + 2 * i + 1]);
  }
}

// Sets elements outside columns first .. last to -infinity; bounds(row of the group's 64, first, last).
template <int COUNT, class Bounds>
__device__ __forceinline__ void keep_columns(float (&c)[COUNT], Bounds bounds, int warp_row, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int first, last;
    bounds(warp_row + half * 8 + lane / 4, first, last);
    first -= lane % 4 * 2, last -= lane % 4 * 2;
#pragma unroll
    for (int t = 0; t < COUNT / 4; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * t + e;
        if (column < first || column > last) c[4 * t + 2 * half + e] = -INFINITY;
      }
    }
  }
}

// x[t] of a quad's lane p goes to x[p] of lane t.
__device__ __forceinline__ void transpose_quad(uint32_t (&x)[4], int lane) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool odd = lane & 1;
    const uint32_t y = __shfl_xor_sync(~0u, odd ? x[2 * i] : x[2 * i + 1], 1);
    (odd ? x[2 * i] : x[2 * i + 1]) = y;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool high = lane & 2;
    const uint32_t y = __shfl_xor_sync(~0u, high ? x[i] : x[i + 2], 2);
    (high ? x[i] : x[i + 2]) = y;
  }
}

// A warp's 16 rows of sums, times a factor each, to rows at `to` (the group's first), of which `rows` exist.
template <int D>
__device__ __forceinline__ void store_rows(const float (&c)[D / 2], const float (&factor)[2], bfloat16* to,
                                           int64_t stride, int rows, bool accumulate, int warp_row,
                                           int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + half * 8 + lane / 4;
    bfloat16* const place = to + row * stride;
#pragma unroll
    for (int t = 0; t < D / 8; t += 4) {
      uint32_t x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float low = factor[half] * c[4 * (t + i) + 2 * half],
              high = factor[half] * c[4 * (t + i) + 2 * half + 1];
        if (accumulate && row < rows) {
          const auto old = Pack<bfloat16, 2>::load(place + 8 * (t + i) + lane % 4 * 2);
          low += old[0], high += old[1];
        }
        x[i] = pack_bfloat16(low, high);
      }
      transpose_quad(x, lane);
      if (row < rows) {
        *reinterpret_cast<uint4*>(place + 8 * (t + lane % 4)) = make_uint4(x[0], x[1], x[2], x[3]);
      }
    }
  }
}

// Whose turn it is to add to a tile, and the next one's after what this thread has written.
__device__ __forceinline__ unsigned load_turn(const unsigned* turn) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(value) : "l"(turn) : "memory");
  return value;
}
__device__ __forceinline__ void pass_turn(unsigned* turn, unsigned next) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;\n" ::"l"(turn), "r"(next) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t address, float x, float y, float z, float w) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"r"(address), "f"(x), "f"(y), "f"(z), "f"(w)
               : "memory");
}

}  // namespace sluice::kernels
