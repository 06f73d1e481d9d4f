#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/column_sums.h"
#include "support/catch.h"

using namespace sluice;

TEST_CASE("add and multiply: rows with strides, in place and accumulated") {
  // Columns 0 and 1 of rows of 3; the third is nobody's.
  std::vector<double> a = {1, 2, 9, 3, 4, 9}, b = {10, 20, 9, 30, 40, 9};
  kernels::AddParams<double> add;
  add.rows = 2, add.columns = 2, add.a = a.data(), add.a_stride = 3, add.b = b.data(), add.b_stride = 3;
  add.y = a.data(), add.y_stride = 3;
  kernels::cpu::add(add);
  CHECK(a == std::vector<double>{11, 22, 9, 33, 44, 9});
  std::vector<double> y = {1, 1, 1, 1};
  kernels::MultiplyParams<double> multiply;
  multiply.rows = 2, multiply.columns = 2, multiply.a = a.data(), multiply.a_stride = 3,
  multiply.b = b.data();
  multiply.b_stride = 3, multiply.y = y.data(), multiply.y_stride = 2, multiply.accumulate = true;
  kernels::cpu::multiply(multiply);
  CHECK(y == std::vector<double>{111, 441, 991, 1761});
  multiply.accumulate = false;
  kernels::cpu::multiply(multiply);
  CHECK(y == std::vector<double>{110, 440, 990, 1760});
}

TEST_CASE("column sums, over more rows than one block sums") {
  constexpr int64_t kRows = 1000;
  std::vector<double> x;
  for (int64_t row = 0; row < kRows; ++row) x.insert(x.end(), {static_cast<double>(row), 1.0, -1e9});
  std::vector<double> sums = {5, 5};
  kernels::ColumnSums<double> columns;
  columns.rows = kRows, columns.columns = 2, columns.x = x.data(), columns.x_stride = 3,
  columns.sums = sums.data();
  kernels::cpu::column_sums(columns);
  CHECK(sums == std::vector<double>{499500, 1000});
  columns.accumulate = true;
  kernels::cpu::column_sums(columns);
  CHECK(sums == std::vector<double>{2 * 499500, 2000});
}
