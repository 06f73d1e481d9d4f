// Tensors, memory and graphs on a GPU.
#include "tensor/tensor.h"

#include "core/error.h"
#include "support/catch.h"
#include "support/random_tensor.h"
#include "tensor/cuda_allocator.h"
#include "tensor/device.h"
#include "tensor/device_graph.h"

using namespace sluice;
using test::random_normal;

namespace {
constexpr Device kGpu = Device::kCuda;
}

TEST_CASE("tensors come back from the GPU as they went, dense and strided") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor host = random_normal({5, 7, 12}, dtype, 1);
    const Tensor there = host.to(kGpu);
    CHECK(there.device() == kGpu);
    CHECK(there.to(Device::kCpu).to(DType::kF32).to_vector<float>() ==
          host.to(DType::kF32).to_vector<float>());
    const Tensor part = there.narrow(1, 2, 3).columns(1, 9);
    const Tensor expected = host.narrow(1, 2, 3).columns(1, 9);
    CHECK(part.to(DType::kF32).to_vector<float>() == expected.to(DType::kF32).to_vector<float>());
    const Tensor target = Tensor::zeros({5, 7, 12}, dtype, kGpu);
    target.narrow(1, 2, 3).columns(1, 9).copy_from(part);
    const Tensor wanted = Tensor::zeros({5, 7, 12}, dtype, Device::kCpu);
    wanted.narrow(1, 2, 3).columns(1, 9).copy_from(expected);
    CHECK(target.to(DType::kF32).to_vector<float>() == wanted.to(DType::kF32).to_vector<float>());
    target.columns(2, 3).fill_zero();
    wanted.columns(2, 3).fill_zero();
    CHECK(target.to(DType::kF32).to_vector<float>() == wanted.to(DType::kF32).to_vector<float>());
  }
}

TEST_CASE("conversions and sums round like the CPU's") {
  const Tensor host = random_normal({33, 17}, DType::kF32, 2);
  const Tensor there = host.to(kGpu);
  CHECK(there.to(DType::kBF16).to(Device::kCpu).to(DType::kF32).to_vector<float>() ==
        host.to(DType::kBF16).to(DType::kF32).to_vector<float>());
  CHECK(there.to(DType::kBF16).to(DType::kF32).to_vector<float>() ==
        host.to(DType::kBF16).to(DType::kF32).to_vector<float>());
  const Tensor other = random_normal({33, 17}, DType::kF32, 3);
  const Tensor sum = there.clone();
  sum.columns(3, 5).add_from(other.to(kGpu).columns(3, 5));
  host.columns(3, 5).add_from(other.columns(3, 5));
  CHECK(sum.to_vector<float>() == host.to_vector<float>());
}

TEST_CASE("memory is counted by class, reused, and its end is an error that says what holds it") {
  Allocator& allocator = allocator_of(kGpu);
  const int64_t before = allocator.statistics().current;
  void* first = nullptr;
  {
    const MemoryClassScope scope(MemoryClass::kWorkspace);
    const Tensor tensor = Tensor::empty({1 << 20}, DType::kF32, kGpu);
    first = tensor.raw_data();
    CHECK(allocator.statistics().current - before == 4 << 20);
    CHECK(allocator.statistics().current_of[static_cast<size_t>(MemoryClass::kWorkspace)] >= 4 << 20);
  }
  CHECK(allocator.statistics().current == before);
  CHECK(Tensor::empty({1 << 20}, DType::kF32, kGpu).raw_data() == first);
  try {
    Tensor::empty({int64_t{1} << 40}, DType::kF32, kGpu);
    FAIL("there is no GPU of 4 TiB");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kOutOfMemory);
    CHECK_THAT(error.what(), test::contains("4.0 TiB for activations") && test::contains("weights") &&
                                 test::contains("train.recompute"));
  }
  CHECK_NOTHROW(Tensor::empty({1 << 20}, DType::kF32, kGpu));
}

TEST_CASE("a graph repeats its work on memory nobody else gets meanwhile") {
  const Tensor input = Tensor::zeros({1000}, DType::kF32, kGpu),
               output = Tensor::zeros({1000}, DType::kF32, kGpu);
  const Tensor step = random_normal({1000}, DType::kF32, 5).to(kGpu);
  const auto work = [&] {
    const Tensor temporary = input.clone();  // memory of the graph's own
    temporary.add_from(step);
    output.add_from(temporary);
  };
  work();
  DeviceGraph graph;
  graph.record(work);
  CHECK(graph.recorded());
  // Allocations between replays must not get the graph's memory: filling them must not change its result.
  std::vector<Tensor> others;
  for (int i = 0; i < 20; ++i) {
    others.push_back(random_normal({1000}, DType::kF32, 6).to(kGpu));
    graph.replay();
  }
  const auto expected = others[0].to_vector<float>();
  for (const Tensor& other : others) CHECK(other.to_vector<float>() == expected);
  const auto steps = step.to_vector<float>(), sums = output.to_vector<float>();
  for (size_t i = 0; i < sums.size(); ++i) CHECK(sums[i] == Approx(21 * steps[i]).epsilon(1e-5));
}

TEST_CASE("a recorded graph does the host's work in between at its place") {
  const Tensor value = Tensor::zeros({1}, DType::kF32, kGpu);
  const Tensor one = Tensor::from<float>({1}, {1.0f}).to(kGpu);
  std::vector<float> seen;
  const auto work = [&] {
    DeviceGraph::on_host([&] { seen.push_back(value.item()); });  // with nothing before it
    value.add_from(one);
    DeviceGraph::on_host([&] { seen.push_back(value.item()); });
    DeviceGraph::on_host([&] { value.add_from(one); });
    value.add_from(one);
    value.add_from(one);
    DeviceGraph::on_host([&] { seen.push_back(value.item()); });
  };
  work();
  CHECK(seen == std::vector<float>{0, 1, 4});
  seen.clear();
  DeviceGraph graph;
  graph.record(work);
  CHECK(seen.empty());
  graph.replay();
  graph.replay();
  CHECK(seen == std::vector<float>{4, 5, 8, 8, 9, 12});
  CHECK(value.item() == 12);
}
