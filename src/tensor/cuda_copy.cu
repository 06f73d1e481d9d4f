#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <functional>

#include "core/cuda_check.h"
#include "tensor/cuda_copy.h"
#include "tensor/device.h"

namespace sluice::cuda {
namespace {

constexpr int THREADS = 256;
constexpr int64_t kMostBlocks = 132 * 16;

__device__ float as_float(float value) { return value; }
__device__ float as_float(bfloat16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }
__device__ void store(float* to, float value) { *to = value; }
__device__ void store(bfloat16* to, float value) {
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// to [rows, columns] = from, or += from.
template <class To, class From, bool ADD>
__global__ void convert_rows(int64_t rows, int64_t columns, To* to, int64_t to_stride, const From* from,
                             int64_t from_stride) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < rows * columns; i += step) {
    const int64_t row = i / columns, column = i % columns;
    To* target = to + row * to_stride + column;
    const float value = as_float(from[row * from_stride + column]);
    store(target, ADD ? as_float(*target) + value : value);
  }
}

// Rows [rows, columns] at one stride: what the copy engines and the kernel above take.
struct Rows {
  char* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;  // in elements
};

// Folds what folds: a dense tensor is one row, others go row by row of their leading dimensions.
void for_each_block(const Tensor& to, const Tensor& from, const std::function<void(Rows, Rows)>& body) {
  if (to.numel() == 0) return;
  if (to.is_contiguous() && from.is_contiguous()) {
    const int64_t count = to.numel();
    return body({static_cast<char*>(to.raw_data()), 1, count, count},
                {static_cast<char*>(from.raw_data()), 1, count, count});
  }
  if (to.rank() > 2) {
    for (int64_t i = 0; i < to.size(0); ++i) {
      Shape inner;
      for (int d = 1; d < to.rank(); ++d) inner.append(to.size(d));
      for_each_block(to.narrow(0, i, 1).view(inner), from.narrow(0, i, 1).view(inner), body);
    }
    return;
  }
  body({static_cast<char*>(to.raw_data()), to.rows(), to.size(-1), to.row_stride()},
       {static_cast<char*>(from.raw_data()), from.rows(), from.size(-1), from.row_stride()});
}

template <class To, class From, bool ADD>
void launch(const Tensor& to, const Tensor& from) {
  for_each_block(to, from, [](const Rows& target, const Rows& source) {
    const int64_t blocks =
        std::min(kMostBlocks, (target.rows * target.columns + THREADS - 1) / int64_t{THREADS});
    convert_rows<To, From, ADD><<<static_cast<unsigned>(blocks), THREADS, 0, compute_stream(Device::kCuda)>>>(
        target.rows, target.columns, reinterpret_cast<To*>(target.data), target.stride,
        reinterpret_cast<const From*>(source.data), source.stride);
    SLUICE_CHECK_LAUNCH("convert_rows");
  });
}

template <bool ADD>
void convert(const Tensor& to, const Tensor& from) {
  const auto known = [](DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; };
  SLUICE_CHECK(known(to.dtype()) && known(from.dtype()), kInternal,
               "the GPU converts between f32 and bf16, not from {} to {}", name_of(from.dtype()),
               name_of(to.dtype()));
  if (to.dtype() == DType::kF32) {
    from.dtype() == DType::kF32 ? launch<float, float, ADD>(to, from)
                                : launch<float, bfloat16, ADD>(to, from);
  } else {
    from.dtype() == DType::kF32 ? launch<bfloat16, float, ADD>(to, from)
                                : launch<bfloat16, bfloat16, ADD>(to, from);
  }
}

// Bytes as they are, between or within devices.
void copy_bytes(const Tensor& to, const Tensor& from) {
  const auto width = static_cast<size_t>(size_of(to.dtype()));
  for_each_block(to, from, [width](const Rows& target, const Rows& source) {
    const cudaStream_t stream = compute_stream(Device::kCuda);
    if (target.rows == 1) {  // a pitch of 2 GiB and more is refused
      SLUICE_CUDA_CHECK(cudaMemcpyAsync(target.data, source.data, static_cast<size_t>(target.columns) * width,
                                        cudaMemcpyDefault, stream));
      return;
    }
    SLUICE_CUDA_CHECK(cudaMemcpy2DAsync(target.data, static_cast<size_t>(target.stride) * width, source.data,
                                        static_cast<size_t>(source.stride) * width,
                                        static_cast<size_t>(target.columns) * width,
                                        static_cast<size_t>(target.rows), cudaMemcpyDefault, stream));
  });
  // What comes from the CPU's pageable memory has been read when the call above returns.
  if (to.device() == Device::kCpu) synchronize(Device::kCuda);
}

}  // namespace

void copy(const Tensor& to, const Tensor& from) {
  if (to.dtype() == from.dtype()) return copy_bytes(to, from);
  if (to.device() == from.device()) return convert<false>(to, from);
  // Types meet on the CPU, which knows them all.
  if (to.device() == Device::kCpu) return to.copy_from(from.to(Device::kCpu));
  copy_bytes(to, from.to(to.dtype()));
}

void add(const Tensor& to, const Tensor& from) { convert<true>(to, from); }

void fill_zero(const Tensor& tensor) {
  const auto width = static_cast<size_t>(size_of(tensor.dtype()));
  for_each_block(tensor, tensor, [width](const Rows& target, const Rows&) {
    const cudaStream_t stream = compute_stream(Device::kCuda);
    if (target.rows == 1) {
      SLUICE_CUDA_CHECK(cudaMemsetAsync(target.data, 0, static_cast<size_t>(target.columns) * width, stream));
      return;
    }
    SLUICE_CUDA_CHECK(cudaMemset2DAsync(target.data, static_cast<size_t>(target.stride) * width, 0,
                                        static_cast<size_t>(target.columns) * width,
                                        static_cast<size_t>(target.rows), stream));
  });
}

}  // namespace sluice::cuda
