#include "tensor/allocator.h"

#include "core/error.h"
#include "support/catch.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

using namespace sluice;

TEST_CASE("statistics follow live tensors by class") {
  Allocator& allocator = allocator_of(Device::kCpu);
  const auto before = allocator.statistics();
  allocator.reset_peak();
  {
    const MemoryClassScope scope(MemoryClass::kOptimizer);
    const Tensor held = Tensor::empty({1024}, DType::kF32, Device::kCpu);
    const auto during = allocator.statistics();
    const auto index = static_cast<size_t>(MemoryClass::kOptimizer);
    CHECK(during.current_of[index] - before.current_of[index] == 4096);
  }
  const auto after = allocator.statistics();
  CHECK(after.current == before.current);
  CHECK(after.peak >= before.current + 4096);
}

TEST_CASE("an impossible request says what was asked for and what is held") {
  try {
    Tensor::empty({int64_t{1} << 50}, DType::kF32, Device::kCpu);
    FAIL("allocated 4 PiB");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 5);
    CHECK_THAT(std::string(error.what()), test::contains("4096.0 TiB for activations"));
    CHECK_THAT(std::string(error.what()), test::contains("weights"));
  }
}

TEST_CASE("where there is no GPU, tensors on one are refused with the reason") {
  std::string why_not;
  if (is_available(Device::kCuda, &why_not)) return;
  CHECK_FALSE(why_not.empty());
  CHECK_THROWS_WITH(Tensor::empty({2}, DType::kF32, Device::kCuda),
                    test::contains("CUDA") || test::contains("GPU"));
}
