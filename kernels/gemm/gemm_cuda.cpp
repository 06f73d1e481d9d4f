// Matrix products on a GPU through cuBLASLt: plain C++.
#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <type_traits>

#include "core/bfloat16.h"
#include "core/cuda_check.h"
#include "core/environment.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/repeat_row.h"

namespace sluice::kernels::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  SLUICE_CHECK(status == CUBLAS_STATUS_SUCCESS, kInternal, "cuBLASLt: {} failed: {}", what,
               cublasLtGetStatusString(status));
}

template <class T>
constexpr cudaDataType_t kDataType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kDataType<bfloat16> = CUDA_R_16BF;

cublasLtHandle_t handle() {
  // One for the process; never destroyed, since the driver may be gone first.
  static const cublasLtHandle_t instance = [] {
    cublasLtHandle_t created = nullptr;
    check(cublasLtCreate(&created), "cublasLtCreate");
    return created;
  }();
  return instance;
}

// Largest power of two up to 256 that divides the address and the row's bytes.
uint32_t alignment_of(const void* pointer, int64_t row_bytes) {
  uint32_t alignment = 256;
  while (alignment > 1 &&
         (reinterpret_cast<uintptr_t>(pointer) % alignment != 0 || row_bytes % alignment != 0)) {
    alignment /= 2;
  }
  return alignment;
}

// What a plan depends on. cuBLASLt thinks in columns, so the product is computed as c^T = b^T a^T.
struct Problem {
  int64_t m, n, k, a_stride, b_stride, c_stride;
  bool transpose_a, transpose_b, accumulates, has_bias;
  cudaDataType_t input, output;
  uint32_t a_alignment, b_alignment, c_alignment;

  auto key() const {
    return std::tie(m, n, k, a_stride, b_stride, c_stride, transpose_a, transpose_b, accumulates, has_bias,
                    input, output, a_alignment, b_alignment, c_alignment);
  }
  bool operator<(const Problem& other) const { return key() < other.key(); }
};

cublasLtMatrixLayout_t layout(cudaDataType_t type, int64_t rows, int64_t columns, int64_t stride) {
  cublasLtMatrixLayout_t created = nullptr;
  check(cublasLtMatrixLayoutCreate(&created, type, static_cast<uint64_t>(rows),
                                   static_cast<uint64_t>(columns), stride),
        "cublasLtMatrixLayoutCreate");
  return created;
}

// Descriptors and the algorithm of one problem; made once and kept for the life of the process.
struct Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

void set_alignment(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   uint32_t bytes) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof(bytes)),
        "cublasLtMatmulPreferenceSetAttribute");
}

Plan make_plan(const Problem& p) {
  Plan plan;
  check(cublasLtMatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  const cublasOperation_t of_first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t of_second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(
      cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &of_first, sizeof(of_first)),
      "cublasLtMatmulDescSetAttribute");
  check(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, &of_second,
                                       sizeof(of_second)),
        "cublasLtMatmulDescSetAttribute");
  if (p.has_bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    check(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                         sizeof(epilogue)),
          "cublasLtMatmulDescSetAttribute");
  }
  plan.first = p.transpose_b ? layout(p.input, p.k, p.n, p.b_stride) : layout(p.input, p.n, p.k, p.b_stride);
  plan.second = p.transpose_a ? layout(p.input, p.m, p.k, p.a_stride) : layout(p.input, p.k, p.m, p.a_stride);
  plan.result = layout(p.output, p.n, p.m, p.c_stride);
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto bytes = static_cast<size_t>(kWorkspaceBytes);
  check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                             sizeof(bytes)),
        "cublasLtMatmulPreferenceSetAttribute");
  set_alignment(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b_alignment);
  set_alignment(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_alignment);
  set_alignment(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.c_alignment);
  set_alignment(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.c_alignment);
  // The library's first choice, which depends on the problem alone: a choice by timing could differ from run
  // to run, and with it the sums' order.
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle(), plan.product, plan.first, plan.second, plan.result,
                                     plan.result, preference, 1, &found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  SLUICE_CHECK(status == CUBLAS_STATUS_SUCCESS && count > 0, kInternal,
               "cuBLASLt has no algorithm for a product of [{}, {}] and [{}, {}]: {}", p.m, p.k, p.k, p.n,
               cublasLtGetStatusString(status));
  plan.algorithm = found.algo;
  return plan;
}

// To be called, and its result used, under plan_mutex.
const Plan& plan_of(const Problem& problem) {
  static std::map<Problem, Plan> plans;
  const auto found = plans.find(problem);
  return found != plans.end() ? found->second : plans.emplace(problem, make_plan(problem)).first->second;
}

// Whether the library can add the bias: it reads it, and writes c, 16 bytes at a time.
template <class T>
bool adds_bias(const GemmParams<T, T>& p) {
  const auto width = static_cast<int64_t>(sizeof(T));
  return alignment_of(p.bias, p.n * width) >= 16 && alignment_of(p.c, p.c_stride * width) >= 16;
}

// A bias is part of a plan's descriptor, so a call has the plan to itself.
std::mutex plan_mutex;

const bool poisons_products = environment::flag("SLUICE_POISON_PRODUCTS", false);

}  // namespace

template <class T, class Output>
void gemm(const GemmParams<T, Output>& params) {
  GemmParams<T, Output> p = params;
  if (p.m == 0 || p.n == 0) return;
  if constexpr (std::is_same_v<T, Output>) {
    if (p.bias != nullptr && !adds_bias(p)) {
      repeat_row(p.bias, p.m, p.n, p.c, p.c_stride, p.stream);
      p.bias = nullptr, p.beta = 1;
    }
  }
  const auto input_bytes = static_cast<int64_t>(sizeof(T)),
             output_bytes = static_cast<int64_t>(sizeof(Output));
  const Problem problem{p.m,
                        p.n,
                        p.k,
                        p.a_stride,
                        p.b_stride,
                        p.c_stride,
                        p.transpose_a,
                        p.transpose_b,
                        p.beta != 0 || p.addend != nullptr,
                        p.bias != nullptr,
                        kDataType<T>,
                        kDataType<Output>,
                        alignment_of(p.a, p.a_stride * input_bytes),
                        alignment_of(p.b, p.b_stride * input_bytes),
                        std::min(alignment_of(p.c, p.c_stride * output_bytes),
                                 alignment_of(p.addend, p.c_stride * output_bytes))};
  const std::lock_guard lock(plan_mutex);
  const Plan& plan = plan_of(problem);
  if (p.bias != nullptr) {
    check(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias,
                                         sizeof(p.bias)),
          "cublasLtMatmulDescSetAttribute");
  }
  const Output* added = p.addend != nullptr ? p.addend : p.c;
  const accumulate_t<T> beta = p.addend != nullptr ? 1 : p.beta;
  if (poisons_products && (added != p.c || beta == 0)) {
    SLUICE_CUDA_CHECK(cudaMemset2DAsync(p.c, static_cast<size_t>(p.c_stride * output_bytes), 0xff,
                                        static_cast<size_t>(p.n * output_bytes), static_cast<size_t>(p.m),
                                        p.stream));
  }
  check(cublasLtMatmul(handle(), plan.product, &p.alpha, p.b, plan.first, p.a, plan.second, &beta, added,
                       plan.result, p.c, plan.result, &plan.algorithm, p.workspace,
                       static_cast<size_t>(kWorkspaceBytes), p.stream),
        "cublasLtMatmul");
}

template <class T, class Output>
int64_t gemm_workspace(const GemmParams<T, Output>&) {
  return kWorkspaceBytes;
}

template void gemm(const GemmParams<float, float>&);
template void gemm(const GemmParams<bfloat16, bfloat16>&);
template void gemm(const GemmParams<bfloat16, float>&);
template int64_t gemm_workspace(const GemmParams<float, float>&);
template int64_t gemm_workspace(const GemmParams<bfloat16, bfloat16>&);
template int64_t gemm_workspace(const GemmParams<bfloat16, float>&);

}  // namespace sluice::kernels::cuda
