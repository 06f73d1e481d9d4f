#include "train/weight_hash.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tensor/device.h"

namespace sluice {
namespace {

constexpr int64_t kPieceElements = int64_t{16} << 20;
constexpr size_t kLanes = 8;  // chains of multiplications beside each other
// Odd, so that multiplying loses nothing.
constexpr uint64_t kFactor = 0x9e3779b97f4a7c15ull;

uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kFactor;
  return hash ^ (hash >> 29);
}

uint64_t hash_piece(uint64_t hash, const std::byte* bytes, int64_t count) {
  std::array<uint64_t, kLanes> lanes{};
  constexpr int64_t kStride = kLanes * sizeof(uint64_t);
  int64_t at = 0;
  for (; at + kStride <= count; at += kStride) {
    std::array<uint64_t, kLanes> words;
    std::memcpy(words.data(), bytes + at, kStride);
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = mixed(lanes[lane], words[lane]);
  }
  for (; at < count; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, static_cast<size_t>(std::min<int64_t>(8, count - at)));
    lanes[0] = mixed(lanes[0], word);
  }
  for (const uint64_t lane : lanes) hash = mixed(hash, lane);
  return hash;
}

}  // namespace

uint64_t hash_of_weights(const Tensor& weights) {
  uint64_t hash = 0;
  for (int64_t first = 0; first < weights.numel(); first += kPieceElements) {
    const int64_t count = std::min(kPieceElements, weights.numel() - first);
    const Tensor piece = weights.narrow(0, first, count).to(Device::kCpu);
    synchronize(weights.device());
    hash = hash_piece(hash, static_cast<const std::byte*>(piece.raw_data()), piece.bytes());
  }
  return hash;
}

}  // namespace sluice
