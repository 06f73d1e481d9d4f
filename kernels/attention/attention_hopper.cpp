// The host's side of attention on sm_90a: whether it runs here, and maps of the rows for bulk copies.
#include "kernels/attention/attention_hopper.h"

#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/attention/attention_hopper_map.h"
#include "kernels/common/compute_capability.h"

namespace sluice::kernels {
namespace {

bool hopper_allowed = true;
GradientPasses passes_wanted = GradientPasses::kByShape;

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

}  // namespace

void allow_hopper_attention(bool allowed, GradientPasses passes) {
  hopper_allowed = allowed, passes_wanted = passes;
}
GradientPasses cuda::gradient_passes() { return passes_wanted; }

bool cuda::has_hopper_attention() {
#ifdef SLUICE_SM90A
  return hopper_allowed && runs_sm90a() && encode_function() != nullptr;
#else
  return false;
#endif
}

CUtensorMap map_of_rows(const bfloat16* data, int64_t columns, int64_t rows, int64_t stride, int box_rows) {
  constexpr int64_t kMostRows = (int64_t{1} << 31) - 1;  // coordinates are 32-bit
  CUtensorMap map;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns),
                               static_cast<cuuint64_t>(std::min(rows, kMostRows))};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * sizeof(bfloat16)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  const CUresult result =
      encode_function()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bfloat16*>(data), sizes,
                        strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SLUICE_CHECK(result == CUDA_SUCCESS, kInternal,
               "softmax_attention: no map of {} x {} elements in rows {} apart (error {})", rows, columns,
               stride, static_cast<int>(result));
  return map;
}

}  // namespace sluice::kernels
