// What blocks of the attention kernels of sm_90a work on: items, drawn from a counter, and what the copying
// warp tells the others of them.
#pragma once

#include "kernels/attention/attention_hopper.cuh"

namespace sluice::kernels {

// Items of work, drawn in the order of their numbers by the copying warps.
class Tickets {
 public:
  __device__ __forceinline__ Tickets(unsigned* counter, int lane) : counter_(counter), lane_(lane) { draw(); }
  __device__ __forceinline__ unsigned first() const { return blockIdx.x; }
  // Drawn when the one before was: the answer takes a while.
  __device__ __forceinline__ unsigned next() { return gridDim.x + drawn(); }

 private:
  __device__ __forceinline__ unsigned drawn() {
    const unsigned item = __shfl_sync(~0u, drawn_, 0);
    draw();
    return item;
  }
  __device__ __forceinline__ void draw() {
    if (lane_ == 0) drawn_ = atomicAdd(counter_, 1u);
  }
  unsigned* counter_;
  int lane_;
  unsigned drawn_ = 0;
};

// The next item of a kernel whose blocks wait for one another in the order of items: drawn when its block is
// about to begin it, as those before it were. One drawn ahead would wait for the end of another, and all
// after it with it.
__device__ __forceinline__ unsigned draw_item(unsigned* counter, int lane) {
  unsigned item = 0;
  if (lane == 0) item = atomicAdd(counter, 1u);
  return __shfl_sync(~0u, item, 0);
}

// Some queries of a head and the keys they see, as the copying warp tells the others.
struct QueryTask {
  int rows, row;  // queries, the first at `row` of the batch; no rows: there is no more work
  int head;
  int position, window;  // position of the first query
  int begin, tiles;      // of keys, the first at position `begin`
  int unused;

  // Tiles [from, to) that a group's rows see.
  __device__ __forceinline__ void seen_tiles(int group, int tile_keys, int& from, int& to) const {
    const int own_rows = min(GROUP_ROWS, rows - group * GROUP_ROWS), first = position + group * GROUP_ROWS;
    from = own_rows > 0 ? (AttentionPlace(0, window).first_key(first) - begin) / tile_keys : 0;
    to = own_rows > 0 ? (first + own_rows - begin + tile_keys - 1) / tile_keys : 0;
  }
};

// The sequence and head of an item.
__device__ __forceinline__ int pair_of(const AttentionOrder& order, unsigned number) {
  int pair, rank;
  order.locate(number, pair, rank);
  return pair;
}

// What the copying warp itself needs to know of them.
struct QueryItem {
  template <class Params>
  __device__ __forceinline__ QueryItem(const Params& p, const AttentionOrder& order, unsigned number,
                                       int tile_rows, int tile_keys)
      : place(p.shape, pair_of(order, number) / static_cast<int>(p.shape.heads)) {
    int pair, rank;
    order.locate(number, pair, rank);
    head = pair % static_cast<int>(p.shape.heads);
    kv_head = head / static_cast<int>(p.shape.heads / p.shape.kv_heads);
    first = (static_cast<int>(order.tiles) - 1 - rank) * tile_rows;
    rows = min(tile_rows, place.queries - first);
    begin = place.first_key(place.shift + first) / tile_keys * tile_keys;
    tiles = (place.shift + first + rows - begin + tile_keys - 1) / tile_keys;
  }
  __device__ __forceinline__ bool exists() const { return rows > 0; }
  __device__ __forceinline__ QueryTask task() const {
    return {
        rows, static_cast<int>(place.q_first) + first, head, place.shift + first, place.window, begin, tiles,
        0};
  }

  AttentionPlace place;
  int head, kv_head;
  int first, rows;   // queries
  int begin, tiles;  // of keys, the first at `begin`
};

// Some keys of a key head and the positions that see them, as the copying warp tells the others.
struct KeyTask {
  int rows, row;  // keys, the first at `row` of the batch; no rows: there is no more work
  int kv_head;
  int key, keys, window;  // position of the first key; keys of the sequence
  int begin, tiles;       // of one head's queries, the first at position `begin`

  // Tiles [from, to) of a head's queries that see a group's keys.
  __device__ __forceinline__ void seeing_tiles(int group, int tile_queries, int& from, int& to) const {
    const int own_rows = min(GROUP_ROWS, rows - group * GROUP_ROWS), first = key + group * GROUP_ROWS;
    const int last = AttentionPlace(keys, window).last_position(first + own_rows - 1);
    const bool any = own_rows > 0 && max(begin, first) < last;
    from = any ? max(0, first - begin) / tile_queries : 0;
    to = any ? (last - begin + tile_queries - 1) / tile_queries : 0;
  }
};

// What the copying warp itself needs to know of them.
struct KeyItem {
  __device__ __forceinline__ KeyItem(const SoftmaxAttentionBackward<bfloat16>& p, const AttentionOrder& order,
                                     unsigned number, int tile_rows, int tile_queries)
      : place(p.shape, pair_of(order, number) / static_cast<int>(p.shape.kv_heads)) {
    int pair, rank;
    order.locate(number, pair, rank);
    kv_head = pair % static_cast<int>(p.shape.kv_heads);
    first = rank * tile_rows;  // the first keys are seen most
    rows = min(tile_rows, place.keys - first);
    // Tiles count from the sequence's first query, so that all keys cut its queries alike.
    begin = place.shift + max(first - place.shift, 0) / tile_queries * tile_queries;
    end = place.last_position(first + rows - 1);
    tiles = begin < end ? (end - begin + tile_queries - 1) / tile_queries : 0;
  }
  __device__ __forceinline__ bool exists() const { return rows > 0; }
  __device__ __forceinline__ KeyTask task() const {
    return {rows, static_cast<int>(place.k_first) + first, kv_head, first, place.keys, place.window, begin,
            tiles};
  }

  AttentionPlace place;
  int kv_head;
  int first, rows;        // keys
  int begin, end, tiles;  // positions of one head's queries
};

// Probabilities of a group's keys become dS^T = P^T (dP^T - delta). delta: of the thread's first queries; it
// has two of every eight.
template <int COUNT>
__device__ __forceinline__ void score_gradients_of_keys(float (&score)[COUNT], const float (&gradient)[COUNT],
                                                        const float* delta) {
#pragma unroll
  for (int t = 0; t < COUNT / 4; ++t) {
    const float2 d = *reinterpret_cast<const float2*>(delta + 8 * t);
#pragma unroll
    for (int e = 0; e < 4; ++e) score[4 * t + e] *= gradient[4 * t + e] - (e % 2 == 0 ? d.x : d.y);
  }
}

}  // namespace sluice::kernels
