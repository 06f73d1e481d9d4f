// Matrix products on a GPU against the CPU twin in double: what is added to them, and rows that begin
// anywhere.
#include <array>

#include "gpu/kernel_case.h"
#include "kernels/gemm/gemm.h"

using namespace sluice;
using namespace sluice::test;
using kernels::GemmParams;

namespace {

enum class Plus { kNothing, kItself, kAddend, kBias };

struct GemmCase {
  int64_t m, n, k;
  Layout layout;
  Plus plus;
  bool transpose_a = false, transpose_b = true;
};

template <class T, class Output>
void check_gemm(const GemmCase& c) {
  INFO("gemm " << c.m << " x " << c.n << " x " << c.k << " " << name_of(c.layout) << " plus "
               << static_cast<int>(c.plus) << " transposed " << c.transpose_a << c.transpose_b);
  const double scale = 1 / std::sqrt(static_cast<double>(c.k));
  Matrix<T> a(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c.layout, 1);
  Matrix<T> b(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c.layout, 2, scale);
  Matrix<T> bias(1, c.n, c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense, 3);
  Matrix<Output> addend(c.m, c.n, c.layout, 4), y(c.m, c.n, c.layout, 5, c.plus == Plus::kItself ? 1 : 0);
  GemmParams<double> expected;
  GemmParams<T, Output> actual;
  const auto fill = [&](auto& p, auto pointer) {
    p.m = c.m, p.n = c.n, p.k = c.k;
    p.a = pointer(a), p.a_stride = a.stride(), p.transpose_a = c.transpose_a;
    p.b = pointer(b), p.b_stride = b.stride(), p.transpose_b = c.transpose_b;
    p.c = pointer(y), p.c_stride = y.stride();
    if (c.plus == Plus::kItself) p.beta = 1;
    if (c.plus == Plus::kAddend) p.addend = pointer(addend);
    if (c.plus == Plus::kBias) p.bias = pointer(bias);
  };
  fill(expected, [](auto& matrix) { return matrix.host(); });
  fill(actual, [](auto& matrix) { return matrix.device(); });
  const DeviceArray<char> workspace(static_cast<size_t>(kernels::cuda::gemm_workspace(actual)));
  actual.workspace = workspace.data();
  kernels::cpu::gemm(expected);
  kernels::cuda::gemm(actual);
  y.check("y");
}

template <class T, class Output>
void check_all() {
  for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
    for (const Plus plus : {Plus::kNothing, Plus::kItself, Plus::kAddend}) {
      check_gemm<T, Output>({300, 264, 200, layout, plus});
      check_gemm<T, Output>({17, 3, 5, layout, plus});
      check_gemm<T, Output>({1, 1, 1, layout, plus});
      check_gemm<T, Output>({64, 96, 128, layout, plus, true, false});
      check_gemm<T, Output>({64, 96, 128, layout, plus, false, false});
    }
  }
}

template <class T>
void check_bias() {
  for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{300, 264, 16}, {17, 3, 5}, {1, 1, 1}, {1, 512, 16}}) {
      check_gemm<T, T>({m, n, k, layout, Plus::kBias});
    }
  }
}

}  // namespace

TEST_CASE("products, alone and added to what is there") {
  check_all<float, float>();
  check_all<bfloat16, bfloat16>();
  check_all<bfloat16, float>();
}

TEST_CASE("products with a bias") {
  check_bias<float>();
  check_bias<bfloat16>();
}
