// Products of small matrices out of cache, for one thread: c (+)= a b, where a is read one element at a time,
// so that it may be transposed, and the rows of b and c are contiguous. Each element of c is summed over k in
// order, whatever the sizes, so that a row's result does not depend on its neighbours.
#pragma once

#include <cstdint>
#include <cstring>

namespace sluice::kernels::cpu {

template <class T>
struct TileProduct {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;  // element (i, l) at a[i * a_row + l * a_column]
  int64_t a_row = 0, a_column = 0;
  const T* b = nullptr;  // [k, n], row stride b_stride
  int64_t b_stride = 0;
  T* c = nullptr;  // [m, n], row stride c_stride
  int64_t c_stride = 0;
  bool accumulate = false;  // c += instead of =
};

namespace tile {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kRows = 8;
#else
inline constexpr int kVectorBytes = 32;
inline constexpr int kRows = 4;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// GCC's and Clang's vector type: arrays of it stay in registers where arrays of T may not.
template <class T>
struct VectorOf {
  using Type __attribute__((vector_size(kVectorBytes))) = T;
};
template <class T>
using Vector = typename VectorOf<T>::Type;

template <class T>
Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <class T>
void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

// kM rows by kN vectors of c in registers.
template <class T, int kM, int kN>
void vectors(const TileProduct<T>& p, int64_t row, int64_t column) {
  Vector<T> sum[kM][kN] = {};
  const T* a = p.a + row * p.a_row;
  const T* b = p.b + column;
  for (int64_t l = 0; l < p.k; ++l) {
    Vector<T> b_row[kN];
    for (int j = 0; j < kN; ++j) b_row[j] = load(b + l * p.b_stride + j * kLanes<T>);
    for (int i = 0; i < kM; ++i) {
      const T element = a[i * p.a_row + l * p.a_column];
      for (int j = 0; j < kN; ++j) sum[i][j] += element * b_row[j];
    }
  }
  for (int i = 0; i < kM; ++i) {
    T* c = p.c + (row + i) * p.c_stride + column;
    for (int j = 0; j < kN; ++j) {
      T* place = c + j * kLanes<T>;
      store(place, p.accumulate ? load(place) + sum[i][j] : sum[i][j]);
    }
  }
}

// The columns right of the last whole vector.
template <class T, int kM>
void scalars(const TileProduct<T>& p, int64_t row, int64_t column) {
  for (; column < p.n; ++column) {
    for (int i = 0; i < kM; ++i) {
      T sum = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        sum += p.a[(row + i) * p.a_row + l * p.a_column] * p.b[l * p.b_stride + column];
      }
      T& c = p.c[(row + i) * p.c_stride + column];
      c = p.accumulate ? c + sum : sum;
    }
  }
}

template <class T, int kM>
void rows(const TileProduct<T>& p, int64_t row) {
  int64_t column = 0;
  for (; column + 2 * kLanes<T> <= p.n; column += 2 * kLanes<T>) vectors<T, kM, 2>(p, row, column);
  for (; column + kLanes<T> <= p.n; column += kLanes<T>) vectors<T, kM, 1>(p, row, column);
  scalars<T, kM>(p, row, column);
}

}  // namespace tile

template <class T>
void tile_product(const TileProduct<T>& p) {
  int64_t row = 0;
  for (; row + tile::kRows <= p.m; row += tile::kRows) tile::rows<T, tile::kRows>(p, row);
  for (; row + 2 <= p.m; row += 2) tile::rows<T, 2>(p, row);
  for (; row < p.m; ++row) tile::rows<T, 1>(p, row);
}

}  // namespace sluice::kernels::cpu
