#include "ceilings.h"

#include <vector>

#include "core/random.h"
#include "kernels/gemm/gemm.h"
#include "tensor/launch.h"
#include "timing.h"

namespace sluice::bench {
namespace {

// Numbers of both signs: a product of zeros draws less power and runs faster than any real one.
Tensor random_square(int64_t side, DType dtype, Device device) {
  const Philox random(1);
  std::vector<float> values(static_cast<size_t>(side * side));
#pragma omp parallel for
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.uniform(i) - 0.5);
  return Tensor::from({side, side}, values).to(dtype).to(device);
}

double product_seconds(int64_t side, DType dtype, Device device) {
  const Tensor a = random_square(side, dtype, device), b = random_square(side, dtype, device);
  const Tensor c = Tensor::empty({side, side}, dtype, device);
  return dispatch_floating(dtype, "ceilings", [&]<class T>() {
    kernels::GemmParams<T> p;
    p.m = p.n = p.k = p.a_stride = p.b_stride = p.c_stride = side;
    p.a = a.data<T>(), p.b = b.data<T>(), p.c = c.data<T>();
    return time_repeated([&] { SLUICE_LAUNCH_WITH_SCRATCH(T, device, gemm, p); }, 2, 7, device).fastest;
  });
}

}  // namespace

Ceilings measure_ceilings(Device device) {
  const bool on_gpu = device == Device::kCuda;
  const int64_t side = on_gpu ? 8192 : 2048;
  const double product = product_seconds(side, on_gpu ? DType::kBF16 : DType::kF32, device);
  const int64_t elements = int64_t{on_gpu ? 256 : 64} << 20;
  const Tensor from = Tensor::zeros({elements}, DType::kF32, device);
  const Tensor to = Tensor::zeros({elements}, DType::kF32, device);
  const Timing copy = time_repeated([&] { to.copy_from(from); }, 1, 7, device);
  const auto n = static_cast<double>(side);
  return {2.0 * n * n * n / product, 2.0 * static_cast<double>(from.bytes()) / copy.fastest};
}

}  // namespace sluice::bench
