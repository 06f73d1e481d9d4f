#include <cblas.h>

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "kernels/gemm/gemm.h"

namespace sluice::kernels::cpu {
namespace {

// CBLAS takes 32-bit sizes; its own addressing is 64-bit.
int checked(int64_t value, const char* what) {
  SLUICE_CHECK(value >= 0 && value <= std::numeric_limits<int>::max(), kInternal,
               "[gemm] {} is {}, more than the BLAS library can take", what, value);
  return static_cast<int>(value);
}

// Puts what the product is added to in c.
template <class T>
void start_from_addend_or_bias(const GemmParams<T>& p) {
#pragma omp parallel for if (p.m * p.n > 16384)
  for (int64_t row = 0; row < p.m; ++row) {
    const T* from = p.bias != nullptr ? p.bias : p.addend + row * p.c_stride;
    std::copy_n(from, p.n, p.c + row * p.c_stride);
  }
}

}  // namespace

template <class T>
void gemm(const GemmParams<T>& params) {
  GemmParams<T> p = params;
  if (p.m == 0 || p.n == 0) return;
  if (p.bias != nullptr || p.addend != nullptr) {
    start_from_addend_or_bias(p);
    p.beta = T(1);
  }
  if (p.k == 0) {
    for (int64_t row = 0; row < p.m; ++row) {
      for (int64_t column = 0; column < p.n; ++column) {
        T& c = p.c[row * p.c_stride + column];
        c = p.beta == T(0) ? T(0) : p.beta * c;
      }
    }
    return;
  }
  const int m = checked(p.m, "m"), n = checked(p.n, "n"), k = checked(p.k, "k");
  const int lda = checked(p.a_stride, "row stride of a"), ldb = checked(p.b_stride, "row stride of b");
  const int ldc = checked(p.c_stride, "row stride of c");
  const CBLAS_TRANSPOSE ta = p.transpose_a ? CblasTrans : CblasNoTrans;
  const CBLAS_TRANSPOSE tb = p.transpose_b ? CblasTrans : CblasNoTrans;
  if constexpr (sizeof(T) == sizeof(float)) {
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, p.alpha, p.a, lda, p.b, ldb, p.beta, p.c, ldc);
  } else {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, p.alpha, p.a, lda, p.b, ldb, p.beta, p.c, ldc);
  }
}

template void gemm(const GemmParams<float>&);
template void gemm(const GemmParams<double>&);

}  // namespace sluice::kernels::cpu
