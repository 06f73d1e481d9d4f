#include "optim/parameter_arena.h"

#include "core/error.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("entries are aligned views in reverse order of use") {
  const ParameterArena arena({{"first", {3, 5}, true}, {"second", {7}, false}}, DType::kF32, Device::kCpu);
  CHECK(arena.ranges()[1].begin == 0);
  CHECK(arena.ranges()[0].begin == 64);
  CHECK(arena.ranges()[0].end == 79);
  CHECK(arena.elements() == 128);
  CHECK_FALSE(arena.ranges()[1].decayed);
  arena.weight(0).data<float>()[14] = 3.0f;
  CHECK(arena.weights().data<float>()[78] == 3.0f);
  CHECK(arena.gradient(1).shape() == Shape{7});
}

TEST_CASE("gradients and padding start at zero and can be zeroed") {
  const ParameterArena arena({{"a", {5}, true}}, DType::kF64, Device::kCpu);
  arena.gradient(0).data<double>()[4] = 1.0;
  arena.zero_gradients();
  for (const double value : arena.gradients().to_vector<double>()) CHECK(value == 0.0);
}

TEST_CASE("an arena in bf16 is refused on the CPU") {
  CHECK_THROWS_WITH((ParameterArena({{"a", {5}, true}}, DType::kBF16, Device::kCpu)), test::contains("bf16"));
}
