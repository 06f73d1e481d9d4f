#include "ceilings.h"

#include "kernels/gemm/gemm.h"
#include "tensor/tensor.h"
#include "timing.h"

namespace sluice::bench {

Ceilings measure_ceilings() {
  constexpr int64_t kSide = 2048;
  const auto square = [] { return Tensor::zeros({kSide, kSide}, DType::kF32, Device::kCpu); };
  const Tensor a = square(), b = square(), c = square();
  kernels::GemmParams<float> p;
  p.m = p.n = p.k = p.a_stride = p.b_stride = p.c_stride = kSide;
  p.a = a.data<float>(), p.b = b.data<float>(), p.c = c.data<float>();
  const Timing product = time_repeated([&] { kernels::cpu::gemm(p); }, 2, 7);

  constexpr int64_t kElements = int64_t{64} << 20;
  const Tensor from = Tensor::zeros({kElements}, DType::kF32, Device::kCpu);
  const Tensor to = Tensor::zeros({kElements}, DType::kF32, Device::kCpu);
  const Timing copy = time_repeated([&] { to.copy_from(from); }, 1, 7);
  return {2.0 * kSide * kSide * kSide / product.fastest,
          2.0 * static_cast<double>(from.bytes()) / copy.fastest};
}

}  // namespace sluice::bench
