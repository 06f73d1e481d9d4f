#include "tensor/tensor.h"

#include "core/error.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"

using namespace sluice;

namespace {
Tensor counted(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::from<float>(shape, values);
}
}  // namespace

TEST_CASE("a slice of columns is a strided view of the same memory") {
  const Tensor whole = counted({3, 6});
  const Tensor part = whole.columns(2, 3);
  CHECK(part.row_stride() == 6);
  CHECK_FALSE(part.is_contiguous());
  CHECK(part.to_vector<float>() == std::vector<float>{2, 3, 4, 8, 9, 10, 14, 15, 16});
  part.fill_zero();
  CHECK(whole.to_vector<float>()[2] == 0);
  CHECK(whole.to_vector<float>()[5] == 5);
}

TEST_CASE("views fold and split the leading dimensions") {
  const Tensor part = counted({4, 10}).columns(2, 6);
  const Tensor batched = part.view({2, 2, 6});
  CHECK(batched.row_stride() == 10);
  CHECK(batched.to_vector<float>() == part.to_vector<float>());
  const Tensor heads = part.view({4, 3, 2});
  CHECK(heads.stride(0) == 10);
  CHECK(heads.stride(1) == 2);
  CHECK(heads.to_vector<float>() == part.to_vector<float>());
  CHECK_THROWS_AS(part.view({24}), Error);
  CHECK_THROWS_AS(part.view({5, 5}), Error);
}

TEST_CASE("types convert and pointers are checked") {
  const Tensor values = Tensor::from<float>({3}, {1.0f, -2.5f, 0.1f});
  CHECK(values.to(DType::kF64).to_vector<double>()[1] == -2.5);
  CHECK(values.to(DType::kBF16).to(DType::kF32).to_vector<float>()[1] == -2.5f);
  CHECK_THROWS_WITH(values.data<double>(), test::contains("f32 is used as f64"));
}

TEST_CASE("add_from and copy_from work through strides") {
  const Tensor whole = counted({2, 4});
  const Tensor part = whole.columns(1, 2);
  part.add_from(Tensor::from<float>({2, 2}, {10, 10, 10, 10}));
  CHECK(whole.to_vector<float>() == std::vector<float>{0, 11, 12, 3, 4, 15, 16, 7});
  part.copy_from(Tensor::from<double>({2, 2}, {1, 2, 3, 4}));
  CHECK(whole.to_vector<float>() == std::vector<float>{0, 1, 2, 3, 4, 3, 4, 7});
  CHECK_THROWS_AS(part.add_from(counted({2, 3})), Error);
}

TEST_CASE("empty tensors are legal") {
  const Tensor nothing = Tensor::zeros({0, 5}, DType::kF32, Device::kCpu);
  CHECK(nothing.numel() == 0);
  CHECK(nothing.clone().to_vector<float>().empty());
}

TEST_CASE("more than 2^31 elements are addressed", "[large]") {
  const int64_t rows = (int64_t{1} << 31) / 1024 + 2;
  const Tensor large = Tensor::empty({rows, 1024}, DType::kBF16, Device::kCpu);
  const Tensor last = large.narrow(0, rows - 1, 1);
  last.fill_zero();
  last.data<bfloat16>()[1023] = to_bfloat16(3.0f);
  CHECK(to_float(large.data<bfloat16>()[rows * 1024 - 1]) == 3.0f);
}
