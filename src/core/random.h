// Counter-based random numbers: value i of stream s under a seed is a pure function, so that order of use,
// threads and devices do not matter and a generator's state is one integer.
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Four 32-bit words for counter `index`.
  std::array<uint32_t, 4> block(uint64_t index) const;
  // 64 random bits number `index`.
  uint64_t bits64(uint64_t index) const;
  // Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const;
  // Standard normal (Box-Muller), one block each.
  double normal(uint64_t index) const;

 private:
  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace sluice
