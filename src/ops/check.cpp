#include "ops/check.h"

#include "core/error.h"
#include "tensor/launch.h"

namespace sluice::ops {

void require_like(const char* op, const char* name, const Tensor& tensor, const Tensor& reference) {
  SLUICE_CHECK(tensor.dtype() == reference.dtype() && tensor.device() == reference.device(), kInternal,
               "[{}] expected {} as {} on {}, got {} on {}", op, name, name_of(reference.dtype()),
               name_of(reference.device()), name_of(tensor.dtype()), name_of(tensor.device()));
}

void require_exact(const char* op, const char* name, const Tensor& tensor, const Tensor& reference) {
  const DType dtype = accumulate_dtype(reference.dtype());
  SLUICE_CHECK(tensor.dtype() == dtype && tensor.device() == reference.device(), kInternal,
               "[{}] expected {} as {} on {}, got {} on {}", op, name, name_of(dtype),
               name_of(reference.device()), name_of(tensor.dtype()), name_of(tensor.device()));
}

void require_shape(const char* op, const char* name, const Tensor& tensor, const Shape& shape) {
  SLUICE_CHECK(tensor.shape() == shape, kInternal, "[{}] expected {} of shape {}, got {}", op, name,
               shape.to_string(), tensor.shape().to_string());
}

void require_rank(const char* op, const char* name, const Tensor& tensor, int rank) {
  SLUICE_CHECK(tensor.rank() == rank, kInternal, "[{}] expected {} of rank {}, got shape {}", op, name, rank,
               tensor.shape().to_string());
}

void require_dtype(const char* op, const char* name, const Tensor& tensor, DType dtype) {
  SLUICE_CHECK(tensor.dtype() == dtype, kInternal, "[{}] expected {} as {}, got {}", op, name, name_of(dtype),
               name_of(tensor.dtype()));
}

}  // namespace sluice::ops
