#include "train/weight_hash.h"

#include <cstring>

#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;

TEST_CASE("every bit of the weights counts in their hash") {
  for (const int64_t count : {1, 2, 15, 16, 17, 1003}) {
    const Tensor weights = test::random_normal({count}, DType::kF32, 1);
    const uint64_t hash = hash_of_weights(weights);
    CHECK(hash_of_weights(weights.clone()) == hash);
    auto* bytes = static_cast<uint8_t*>(weights.raw_data());
    for (int64_t bit = 0; bit < 32 * count; ++bit) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      REQUIRE(hash_of_weights(weights) != hash);
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    }
    CHECK(hash_of_weights(weights) == hash);
  }
}

TEST_CASE("weights that changed places have another hash") {
  const Tensor weights = Tensor::from<float>({4}, {1, 2, 3, 4}),
               swapped = Tensor::from<float>({4}, {3, 4, 1, 2});
  CHECK(hash_of_weights(weights) != hash_of_weights(swapped));
}
