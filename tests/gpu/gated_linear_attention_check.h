// Checks of gated linear attention on the GPU against the recurrence in double on the CPU.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpu/gated_linear_attention_case.h"
#include "kernels/linear_attention/gated_linear_attention_plan.h"
#include "support/catch.h"

namespace sluice::test {

// Relative RMS. Elementwise, against |reference| + RMS, kElementwise times as much: enough for the tail of
// millions of rounding errors, little enough to catch a row or a fragment that is wrong.
struct Limits {
  double o, d_inputs, dg, states;
};
inline constexpr double kElementwise = 12;
inline constexpr Limits kFloat = {1e-5, 1e-5, 1e-5, 1e-5};
// With gates as the model has them. The rounding of the outputs alone is 1.7e-3.
inline constexpr Limits kBfloat16 = {2.5e-3, 2.0e-3, 2.2e-3, 2.5e-3};
// With any gates: twice the rounding.
inline constexpr Limits kAnyGates = {3.3e-3, 3.3e-3, 3.3e-3, 3.3e-3};

// scale: what errors are relative to where that is more than the reference's RMS.
inline void check_close(const char* name, const Doubles& got, const Doubles& reference, double limit,
                        double scale = 0) {
  Difference d = difference(got, reference);
  double sum = 0;
  for (const double x : reference) sum += x * x;
  const double rms = std::sqrt(sum / std::max<double>(1, static_cast<double>(reference.size())));
  if (scale > rms) d.rms *= rms / scale, d.largest *= rms / scale;
  INFO(name << ": relative RMS " << d.rms << ", largest " << d.largest << ", limit " << limit);
  CHECK(d.rms <= limit);
  CHECK(d.largest <= kElementwise * limit);
  if (std::getenv("GLA_PRINT") != nullptr && got.size() > 0) {
    std::printf("  %-12s rms %.3e largest %.3e limit %.1e%s\n", name, d.rms, d.largest, limit,
                d.rms <= limit && d.largest <= kElementwise * limit ? "" : "  <-- FAILED");
    std::fflush(stdout);
  }
}

// The path the plan takes, on a's inputs.
template <class T>
GlaArrays outputs_of(const GlaCase& c, const GlaArrays& a) {
  GpuRun<T> gpu(c, a);
  gpu.run();
  CHECK(gpu.same_bits);
  CHECK(gpu.untouched);
  return std::move(gpu.results);
}

// Got and a: outputs.
inline void check_outputs(const GlaCase& c, const GlaArrays& got, const GlaArrays& a, const Limits& limits) {
  check_close("o", got.o, a.o, limits.o);
  if (c.states) check_close("final state", got.final_state, a.final_state, limits.states);
  if (!c.backward) return;
  check_close("dq", got.dq, a.dq, limits.d_inputs);
  check_close("dk", got.dk, a.dk, limits.d_inputs);
  check_close("dv", got.dv, a.dv, limits.d_inputs);
  // A head's is a sum over keys of gradients of either sign, each with errors of its own: where these cancel,
  // by chance or because memories are long, the sum's errors do not.
  if (c.gated()) check_close("dg", got.dg, a.dg, limits.dg, a.dg_terms);
  if (c.states) check_close("d initial", got.d_initial, a.d_initial, limits.states);
}

inline void print_case(const GlaCase& c, bool is_float, bool fused) {
  if (std::getenv("GLA_PRINT") == nullptr) return;
  const char* kind = !c.gate                          ? ", no decay"
                     : c.decay == GlaDecay::kHeads    ? ", decay by heads"
                     : c.decay == GlaDecay::kConstant ? ", constant decay"
                                                      : "";
  std::printf("%s N %ld S %zu H %ld/%ld K %ld V %ld%s%s\n", is_float ? "float" : "bfloat16",
              static_cast<long>(c.tokens()), c.lengths.size(), static_cast<long>(c.heads),
              static_cast<long>(c.kv_heads), static_cast<long>(c.key_size), static_cast<long>(c.value_size),
              kind, fused ? "" : ", no fused path");
}

// The path the plan takes; for bfloat16 then without the fused one, which some sizes take on some GPUs.
template <class T>
void check(const GlaCase& c, const Limits& limits, uint64_t seed = 1) {
  GlaArrays a = inputs_of<T>(c, seed);
  run_on_cpu(c, a);
  for (const bool fused : {true, false}) {
    if (!fused && std::is_same_v<T, float>) break;
    INFO((fused ? "any path" : "no fused path"));
    print_case(c, std::is_same_v<T, float>, fused);
    kernels::allow_fused_gated_linear_attention(fused);
    check_outputs(c, outputs_of<T>(c, a), a, limits);
    kernels::allow_fused_gated_linear_attention(true);
  }
}

// The fused path against the chunked one: sizes for which the recurrence in double takes too long.
inline void check_fused(const GlaCase& c, const Limits& limits, uint64_t seed = 1) {
  const GlaArrays inputs = inputs_of<bfloat16>(c, seed);
  print_case(c, false, true);
  const GlaArrays fused = outputs_of<bfloat16>(c, inputs);
  kernels::allow_fused_gated_linear_attention(false);
  const GlaArrays chunked = outputs_of<bfloat16>(c, inputs);
  kernels::allow_fused_gated_linear_attention(true);
  check_outputs(c, fused, chunked, limits);
}

inline GlaCase of_sizes(std::vector<int64_t> lengths, int64_t heads, int64_t kv_heads, int64_t key_size,
                        int64_t value_size) {
  GlaCase c;
  c.lengths = std::move(lengths);
  c.heads = heads, c.kv_heads = kv_heads, c.key_size = key_size, c.value_size = value_size;
  return c;
}

inline const std::vector<int64_t> kPacked = {0, 15, 64, 0, 63, 1, 65, 200, 129, 0};

}  // namespace sluice::test
