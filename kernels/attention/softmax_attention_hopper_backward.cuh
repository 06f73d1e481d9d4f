// What one pass over all gradients lays out: items, shared memory, sums of dq in the workspace.
#pragma once

#include "kernels/attention/attention_hopper_work.cuh"

namespace sluice::kernels {

inline constexpr int GROUPS = 2, QUERIES = 64, ROWS = GROUP_ROWS * GROUPS;
inline constexpr int THREADS = GROUP_THREADS * (GROUPS + 1);

struct PassTask {
  KeyTask keys;
  int first_tile;  // of one head's queries, in the workspace
  int unused[3];
};

template <int D_, int STAGES_, int OWN_STAGES_, int ADDERS_, bool KEEPS_>
struct PassShape {
  static constexpr int D = D_, STAGES = STAGES_, OWN_STAGES = OWN_STAGES_;
  // Warps that add to dq, tiles in turns, each with a place of its own: a sum takes longer to arrive than a
  // tile of head size 64 to multiply.
  static constexpr int ADDERS = ADDERS_;
  // Whether own rows are kept in registers, too. At D 128 the sums leave no room for them.
  static constexpr bool KEEPS = KEEPS_;
  static_assert(!KEEPS || D == 64);
  // Own keys, then own values. A stage: queries, dO.
  static constexpr int GROUP_BYTES = PanelTile<D, GROUP_ROWS>::BYTES, KEY_BYTES = GROUPS * GROUP_BYTES;
  static constexpr int OWN_BYTES = 2 * KEY_BYTES;
  static constexpr int TILE_BYTES = PanelTile<D, QUERIES>::BYTES, STAGE_BYTES = 2 * TILE_BYTES;
  static constexpr int STAGE_PLACE = OWN_STAGES * OWN_BYTES;
  // dS^T of all own keys.
  static constexpr int SCORE_PLACE = STAGE_PLACE + STAGES * STAGE_BYTES;
  static constexpr int SCORE_BYTES = PanelTile<QUERIES, GROUP_ROWS>::BYTES;  // a group's
  // What own keys add to a tile of dq: 16 bytes of each thread of the groups, and again.
  static constexpr int SUM_PLACE = SCORE_PLACE + GROUPS * SCORE_BYTES;
  static constexpr int SUMS = QUERIES * D, SUM_BYTES = SUMS * static_cast<int>(sizeof(float));
  // lse and delta of each stage's queries.
  static constexpr int STATISTIC_PLACE = SUM_PLACE + ADDERS * SUM_BYTES, STATISTIC_BYTES = 8 * QUERIES;
  static constexpr int BARRIER_PLACE = STATISTIC_PLACE + STAGES * STATISTIC_BYTES;
  static constexpr int TASK_PLACE = BARRIER_PLACE + 16 * (STAGES + 2 * OWN_STAGES + 1 + ADDERS);
  // An item is still read of when its keys have made room for the next one's.
  static constexpr int TASKS = OWN_STAGES + 1;
  static constexpr int BYTES = TASK_PLACE + static_cast<int>(sizeof(PassTask)) * TASKS;
  static_assert(SCORE_PLACE % 1024 == 0 && SUM_PLACE % 16 == 0 && TASK_PLACE % 16 == 0);
  static_assert(BYTES <= 227 * 1024);
};

// Tiles of dq in float, of which each sequence has as many as the longest.
struct GradientTiles {
  explicit GradientTiles(const AttentionShape& s)
      : a_sequence(divide_up(s.longest_q, QUERIES)),
        all(s.sequences * a_sequence * s.heads),
        tile_bytes(QUERIES * s.head_dim * static_cast<int64_t>(sizeof(float))) {}
  int64_t turn_bytes() const { return divide_up(all * static_cast<int64_t>(sizeof(unsigned)), 256) * 256; }
  // In the workspace: tickets, whose turn it is at each tile, the tiles.
  int64_t bytes() const { return 256 + turn_bytes() + all * tile_bytes; }
  unsigned* turns(void* workspace) const {
    return reinterpret_cast<unsigned*>(static_cast<char*>(workspace) + 256);
  }
  float* sums(void* workspace) const {
    return reinterpret_cast<float*>(static_cast<char*>(workspace) + 256 + turn_bytes());
  }

  int64_t a_sequence, all, tile_bytes;
};

struct PassMaps {
  CUtensorMap q, k, v, d_o;
};
struct QuerySums {
  unsigned* turns;
  float* sums;
  int tiles;  // of one head of a sequence
};

}  // namespace sluice::kernels
