// Rotary position embedding (Su et al. 2021, eq. 34) in the GPT-NeoX layout: in each head of size D, channel
// i and channel i + D/2 are one pair, turned by the angle position * theta^(-2i/D):
//   y_i = x_i cos - x_{i+D/2} sin;   y_{i+D/2} = x_{i+D/2} cos + x_i sin.
// The gradient is the turn by the opposite angle. Arithmetic in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

// Cosines and sines of the distinct positions of a call. Angles and their cosines are computed in double and
// rounded once, to T.
template <class T>
struct RotaryTableParams {
  int64_t positions = 0, half = 0;              // half = D/2
  const int64_t* position = nullptr;            // [positions], >= 0
  const double* inverse_frequencies = nullptr;  // [half]
  T* cosines = nullptr;                         // [positions, half] dense
  T* sines = nullptr;                           // [positions, half] dense
  Stream stream = nullptr;
};

template <class T>
struct RotaryParams {
  int64_t rows = 0, heads = 0, half = 0;
  bool inverse = false;                      // turn by the opposite angle
  const int32_t* place = nullptr;            // [rows]: each row's position as a row of the tables
  const accumulate_t<T>* cosines = nullptr;  // [positions, half] dense
  const accumulate_t<T>* sines = nullptr;    // [positions, half] dense
  const T* x = nullptr;                      // [rows, heads * 2 * half], row stride x_stride
  int64_t x_stride = 0;
  // As x, row stride y_stride. It may be x itself where nothing is added up.
  T* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;  // y += instead of =
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void rotary_table(const RotaryTableParams<T>& params);
template <class T>
void rotary(const RotaryParams<T>& params);
}  // namespace cpu

// The tables are made by the CPU kernel on every device.
namespace cuda {
template <class T>
void rotary(const RotaryParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
