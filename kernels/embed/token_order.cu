#include <bit>
#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "core/cuda_check.h"
#include "kernels/embed/token_order.h"

namespace sluice::kernels::cuda {
namespace {

constexpr int THREADS = 256;
constexpr int64_t kAlignment = 256;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

__global__ void __launch_bounds__(THREADS)
    make_keys(const int32_t* tokens, int64_t rows, uint32_t vocabulary, uint32_t* keys, uint32_t* places) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= rows) return;
  // A negative token is a large unsigned number.
  keys[i] = min(static_cast<uint32_t>(tokens[i]), vocabulary);
  places[i] = static_cast<uint32_t>(i);
}

// The sort looks at the bits of the numbers up to `vocabulary` only.
int key_bits(int64_t vocabulary) { return std::bit_width(static_cast<uint32_t>(vocabulary)); }

size_t sort_bytes(int64_t rows, int64_t vocabulary) {
  size_t bytes = 0;
  const uint32_t* in = nullptr;
  uint32_t* out = nullptr;
  SLUICE_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, static_cast<int>(rows),
                                                    0, key_bits(vocabulary)));
  return bytes;
}

}  // namespace

int64_t token_order_workspace(int64_t rows, int64_t vocabulary) {
  if (rows <= 0) return 0;
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  SLUICE_CHECK(rows <= kMost && vocabulary < kMost, kUsage,
               "[embedding] {} tokens of a vocabulary of {}: the kernel takes fewer than 2^31 of each", rows,
               vocabulary);
  return 4 * aligned(rows * static_cast<int64_t>(sizeof(uint32_t))) +
         aligned(static_cast<int64_t>(sort_bytes(rows, vocabulary)));
}

TokenOrder sort_tokens(const int32_t* tokens, int64_t rows, int64_t vocabulary, void* workspace,
                       Stream stream) {
  const int64_t step = aligned(rows * static_cast<int64_t>(sizeof(uint32_t)));
  auto* bytes = static_cast<char*>(workspace);
  auto* keys = reinterpret_cast<uint32_t*>(bytes);
  auto* places = reinterpret_cast<uint32_t*>(bytes + step);
  auto* sorted_keys = reinterpret_cast<uint32_t*>(bytes + 2 * step);
  auto* sorted_places = reinterpret_cast<uint32_t*>(bytes + 3 * step);
  make_keys<<<static_cast<unsigned>((rows + THREADS - 1) / THREADS), THREADS, 0, stream>>>(
      tokens, rows, static_cast<uint32_t>(vocabulary), keys, places);
  SLUICE_CHECK_LAUNCH("embedding_backward's keys");
  size_t temporary = sort_bytes(rows, vocabulary);
  SLUICE_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(bytes + 4 * step, temporary, keys, sorted_keys, places,
                                                    sorted_places, static_cast<int>(rows), 0,
                                                    key_bits(vocabulary), stream));
  return {sorted_keys, sorted_places};
}

}  // namespace sluice::kernels::cuda
