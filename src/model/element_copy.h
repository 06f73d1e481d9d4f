// Moving elements between the bytes of a file and tensors of any strides.
#pragma once

#include <cstddef>
#include <functional>

#include "model/stored_type.h"
#include "tensor/tensor.h"

namespace sluice {

// An IEEE half, exactly; NaN payloads keep their bits.
float half_to_float(uint16_t bits);
// Rounded to nearest even; beyond the largest half: infinity. NaN stays NaN.
uint16_t float_to_half(float value);

// Copies `count` elements from `in` to `out`, which need no alignment; bit for bit where the types agree, by
// rounding to nearest even otherwise. Floats convert to floats, I32 and I64 to i32: other pairs are an
// internal error. Returns how many were converted: fewer than `count` where an I64 does not fit, and then
// the count is its position.
int64_t convert_elements(StoredType from, const std::byte* in, DType to, std::byte* out, int64_t count);
// Floats to any float that can be stored, F16 too.
void convert_floats(StoredType from, const std::byte* in, StoredType to, std::byte* out, int64_t count);

// Cuts elements [first, first + count) of the tensor, in row-major order, into runs that are contiguous in
// memory and calls body(start of the run, elements) for each, in order.
void for_each_run(const Tensor& tensor, int64_t first, int64_t count,
                  const std::function<void(std::byte*, int64_t)>& body);

}  // namespace sluice
