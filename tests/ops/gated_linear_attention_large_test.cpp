// Long sequences, and offsets that do not fit into 32 bits.
#include <sys/mman.h>

#include <cmath>

#include "gated_linear_attention_cases.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "support/catch.h"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("gated_linear_attention over a million tokens [large]") {
  const AttentionSizes sizes{1, 1, 8, 8};
  const int64_t length = int64_t{1} << 20;
  const auto inputs = attention_inputs(sizes, length, 1, DType::kF32, -0.1);
  const auto result = values_of(attention(sizes, ops::SequenceLayout::uniform(1, length))(constants(inputs)));
  const float *q = inputs[0].data<float>(), *k = inputs[1].data<float>(), *v = inputs[2].data<float>();
  const float *g = inputs[3].data<float>(), *start = inputs[4].data<float>(), *o = result[0].data<float>();
  double state[64], error = 0, squares = 0;
  for (int i = 0; i < 64; ++i) state[i] = start[i];
  for (int64_t t = 0; t < length; ++t) {
    for (int i = 0; i < 8; ++i) {
      const double decay = std::exp(static_cast<double>(g[t * 8 + i]));
      for (int j = 0; j < 8; ++j) {
        state[i * 8 + j] = decay * state[i * 8 + j] + static_cast<double>(k[t * 8 + i]) * v[t * 8 + j];
      }
    }
    for (int j = 0; j < 8; ++j) {
      double expected = 0;
      for (int i = 0; i < 8; ++i) expected += q[t * 8 + i] * state[i * 8 + j];
      expected /= std::sqrt(8.0);
      error += (o[t * 8 + j] - expected) * (o[t * 8 + j] - expected);
      squares += expected * expected;
    }
  }
  CHECK(std::sqrt(error / squares) < 1e-6);
}

TEST_CASE("gated_linear_attention kernels address rows beyond 2^31 elements [large]") {
  // Rows lie 2^30 elements apart in memory that is reserved but, past the rows' own pages, never touched.
  constexpr int64_t kTokens = 5, kStride = int64_t{1} << 30, kElements = kTokens * kStride;
  void* memory = mmap(nullptr, kElements * sizeof(float), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  // A row holds q, k, g (2 each), v, o, do (3 each), dq, dk, dg (2 each), dv (3).
  auto* rows = static_cast<float*>(memory);
  std::vector<float> dense(kTokens * 24);
  const auto noise = random_uniform({kTokens, 24}, DType::kF32, 1, -1.0, 0.0).to_vector<float>();
  const int64_t offsets[] = {0, kTokens}, slot[] = {-1};
  const auto chunk_offsets = kernels::chunk_offsets(offsets, 1, 64);
  std::vector<float> chunk_states(6);
  const auto run = [&](float* base, int64_t stride) {
    for (int64_t t = 0; t < kTokens; ++t) std::copy_n(noise.data() + t * 24, 24, base + t * stride);
    kernels::GatedLinearAttentionForward<float> p;
    p.tokens = kTokens, p.sequences = 1, p.heads = 1, p.kv_heads = 1, p.key_size = 2, p.value_size = 3;
    p.q = base, p.k = base + 2, p.g = base + 4, p.v = base + 6, p.o = base + 9;
    p.q_stride = p.k_stride = p.g_stride = p.v_stride = p.o_stride = stride;
    p.offsets = offsets, p.state_in = slot, p.state_out = slot;
    p.chunk_offsets = chunk_offsets.data(), p.chunk_states = chunk_states.data();
    kernels::cpu::gated_linear_attention_forward(p);
    kernels::GatedLinearAttentionBackward<float> b;
    b.tokens = kTokens, b.sequences = 1, b.heads = 1, b.kv_heads = 1, b.key_size = 2, b.value_size = 3;
    b.q = base, b.k = base + 2, b.g = base + 4, b.v = base + 6, b.d_o = base + 12;
    b.dq = base + 15, b.dk = base + 17, b.dg = base + 19, b.dv = base + 21;
    b.q_stride = b.k_stride = b.g_stride = b.v_stride = b.d_o_stride = stride;
    b.dq_stride = b.dk_stride = b.dg_stride = b.dv_stride = stride;
    b.offsets = offsets, b.state_in = slot, b.state_out = slot;
    b.chunk_offsets = chunk_offsets.data(), b.chunk_states = chunk_states.data();
    kernels::cpu::gated_linear_attention_backward(b);
  };
  run(dense.data(), 24);
  run(rows, kStride);
  for (int64_t t = 0; t < kTokens; ++t) {
    CHECK(std::memcmp(rows + t * kStride, dense.data() + t * 24, 24 * sizeof(float)) == 0);
  }
  munmap(memory, kElements * sizeof(float));
}
