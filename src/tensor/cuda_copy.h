// Moving and adding tensors where at least one lies on a GPU. In the order of the compute stream; a copy to
// or from the CPU has happened when the call returns.
#pragma once

#include "tensor/tensor.h"

namespace sluice::cuda {

// Same shape; converts between floating types.
void copy(const Tensor& to, const Tensor& from);
// to += from, both on the GPU, same shape; `to` f32 or bf16, `from` either.
void add(const Tensor& to, const Tensor& from);
void fill_zero(const Tensor& tensor);

}  // namespace sluice::cuda
