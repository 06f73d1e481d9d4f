#include "core/random.h"

#include <cmath>
#include <numbers>

namespace sluice {

std::array<uint32_t, 4> Philox::block(uint64_t index) const {
  constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  std::array<uint32_t, 4> counter = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                     static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)};
  uint32_t key0 = static_cast<uint32_t>(seed_), key1 = static_cast<uint32_t>(seed_ >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

uint64_t Philox::bits64(uint64_t index) const {
  const auto words = block(index);
  return (static_cast<uint64_t>(words[1]) << 32) | words[0];
}

double Philox::uniform(uint64_t index) const { return static_cast<double>(bits64(index) >> 11) * 0x1p-53; }

double Philox::normal(uint64_t index) const {
  const auto words = block(index);
  const uint64_t first = (static_cast<uint64_t>(words[1]) << 32) | words[0];
  const uint64_t second = (static_cast<uint64_t>(words[3]) << 32) | words[2];
  // u in (0, 1], so the logarithm is finite.
  const double u = static_cast<double>((first >> 11) + 1) * 0x1p-53;
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(second >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(angle);
}

}  // namespace sluice
