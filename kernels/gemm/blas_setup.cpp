#include "kernels/gemm/blas_setup.h"

#include <cblas.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace sluice::kernels::cpu {
namespace {

#if defined(__x86_64__)
// The OpenBLAS name of the best kernels this processor can run; nullptr when only the fallback is.
const char* best_core_type() {
  __builtin_cpu_init();
  const bool skylake = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (skylake && __builtin_cpu_supports("avx512bf16")) return "Cooperlake";
  if (skylake) return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
  return nullptr;
}

bool is_fallback(std::string_view core) {
  for (const std::string_view old : {"Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Sandybridge"}) {
    if (core == old) return true;
  }
  return false;
}
#endif

}  // namespace

void use_fast_blas_kernels([[maybe_unused]] char** argv) {
#if defined(__x86_64__)
  if (std::getenv("OPENBLAS_CORETYPE") != nullptr || !is_fallback(openblas_get_corename())) return;
  const char* best = best_core_type();
  if (best == nullptr) return;
  ::setenv("OPENBLAS_CORETYPE", best, 1);
  ::execv("/proc/self/exe", argv);
  // Where the program cannot be started anew it runs slowly, but runs.
#endif
}

const char* blas_description() {
  static const std::string text = std::string("OpenBLAS ") + openblas_get_corename();
  return text.c_str();
}

}  // namespace sluice::kernels::cpu
