#include "kernels/common/tensor_map.h"

#include <algorithm>

#include "core/cuda_check.h"

namespace sluice::kernels {
namespace {

constexpr int64_t kMostRows = (int64_t{1} << 31) - 1;  // coordinates are 32-bit

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's function, looked up: programs do not link the driver.
Encode encode_function() {
  static const Encode function = [] {
    constexpr unsigned kSince = 12000;
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince,
                                                               cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(found)
                                                                         : nullptr;
  }();
  return function;
}

// sizes and box: columns first; strides: of all dimensions but these, in elements.
template <int DIMENSIONS>
CUtensorMap encode(const bfloat16* data, const int64_t (&sizes)[DIMENSIONS],
                   const int64_t (&strides)[DIMENSIONS - 1], const int (&box)[DIMENSIONS]) {
  cuuint64_t size[DIMENSIONS], stride[DIMENSIONS - 1];
  cuuint32_t box_size[DIMENSIONS], step[DIMENSIONS];
  for (int i = 0; i < DIMENSIONS; ++i) {
    size[i] = static_cast<cuuint64_t>(sizes[i]), box_size[i] = static_cast<cuuint32_t>(box[i]), step[i] = 1;
  }
  for (int i = 0; i < DIMENSIONS - 1; ++i) {
    stride[i] = static_cast<cuuint64_t>(strides[i]) * sizeof(bfloat16);
  }
  CUtensorMap map;
  const CUresult result =
      encode_function()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, DIMENSIONS, const_cast<bfloat16*>(data), size,
                        stride, box_size, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SLUICE_CHECK(result == CUDA_SUCCESS, kInternal,
               "no map for copies of {} rows of {} columns, {} elements apart (error {})",
               sizes[DIMENSIONS - 1], sizes[0], strides[DIMENSIONS - 2], static_cast<int>(result));
  return map;
}

}  // namespace

bool has_tensor_maps() { return encode_function() != nullptr; }

CUtensorMap map_of_rows(const bfloat16* data, int64_t columns, int64_t rows, int64_t stride, int box_rows) {
  return encode<2>(data, {columns, std::min(rows, kMostRows)}, {stride}, {64, box_rows});
}

CUtensorMap map_of_heads(const bfloat16* data, int64_t columns, int64_t heads, int64_t rows, int64_t stride,
                         int box_rows) {
  SLUICE_CHECK(rows <= kMostRows, kUsage, "bulk copies reach {} rows, not {}", kMostRows, rows);
  return encode<3>(data, {columns, heads, rows}, {columns, stride}, {64, 1, box_rows});
}

}  // namespace sluice::kernels
