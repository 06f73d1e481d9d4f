// Gated linear attention on the GPU against the recurrence in double on the CPU.
#include "gpu/gated_linear_attention_check.h"
#include "kernels/linear_attention/gated_linear_attention_plan.h"
#include "support/catch.h"

namespace sluice::test {
TEST_CASE("bfloat16: the model's head sizes within the errors of its gates", "[gla]") {
  check<bfloat16>(of_sizes({1000, 536}, 2, 2, 128, 256), kBfloat16);
  check<bfloat16>(of_sizes({512}, 1, 1, 256, 512), kBfloat16);
}

TEST_CASE("bfloat16: packed sequences with empty ones, and states through slots", "[gla]") {
  check<bfloat16>(of_sizes(kPacked, 2, 2, 64, 64), kAnyGates);
  check<bfloat16>(of_sizes(kPacked, 4, 2, 128, 64), kAnyGates);
  check<bfloat16>(of_sizes(kPacked, 6, 2, 32, 144), kAnyGates);
  check<bfloat16>(of_sizes(kPacked, 3, 1, 64, 32), kAnyGates);
}

TEST_CASE("bfloat16: all lengths around a chunk", "[gla]") {
  for (const int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129}) {
    check<bfloat16>(of_sizes({length}, 1, 1, 64, 64), kAnyGates, static_cast<uint64_t>(length));
  }
}

TEST_CASE("bfloat16: sequences and heads enough for every tile of the state walk", "[gla]") {
  // A walk takes the largest tile that makes enough blocks; forward walks once, backward twice at a time.
  const auto of_blocks = [](int64_t sequences, int64_t heads, int64_t kv_heads, int64_t key, int64_t value) {
    std::vector<int64_t> lengths;
    for (int64_t s = 0; s < sequences; ++s) lengths.push_back(s % 5 == 3 ? 0 : s % 3 == 0 ? 90 : 45 + s);
    return of_sizes(lengths, heads, kv_heads, key, value);
  };
  check<bfloat16>(of_blocks(3, 10, 10, 64, 64), kAnyGates);   // 32 x 32 and 32 x 64
  check<bfloat16>(of_blocks(5, 8, 8, 128, 128), kAnyGates);   // 32 x 64 and 64 x 64
  check<bfloat16>(of_blocks(13, 8, 8, 128, 128), kAnyGates);  // 64 x 128 and 128 x 128
  check<bfloat16>(of_blocks(16, 8, 8, 128, 128), kAnyGates);  // 128 x 128
  check<bfloat16>(of_blocks(8, 10, 5, 200, 136), kAnyGates);  // 128 x 128, partly outside
}

TEST_CASE("bfloat16: few long sequences, cut into segments", "[gla]") {
  check<bfloat16>(of_sizes({1500, 64, 0, 1300, 513}, 1, 1, 64, 64), kAnyGates);
  check<bfloat16>(of_sizes({2111}, 2, 2, 128, 136), kAnyGates);
  check<bfloat16>(of_sizes({700, 0, 1600}, 1, 1, 256, 200), kAnyGates);
  check<bfloat16>(of_sizes({4100}, 1, 1, 256, 64), kBfloat16);
}

// For a sanitizer: all kernels, cut into segments or not, places of the ring used again, values in one block
// or shared by two.
TEST_CASE("bfloat16: small", "[.][small]") {
  check<bfloat16>(of_sizes({450, 7}, 1, 1, 64, 64), kAnyGates);
  check<bfloat16>(of_sizes({1100}, 1, 1, 128, 256), kAnyGates);
  check<bfloat16>(of_sizes({330}, 1, 1, 256, 136), kAnyGates);
}

TEST_CASE("bfloat16: sizes of heads", "[gla]") {
  for (const auto& [key, value] : std::vector<std::pair<int64_t, int64_t>>{
           {16, 16}, {48, 80}, {80, 48}, {320, 320}, {512, 128}, {64, 1024}, {8, 24}, {200, 136}}) {
    check<bfloat16>(of_sizes({200, 70}, 1, 1, key, value), kAnyGates, static_cast<uint64_t>(key));
  }
}

TEST_CASE("bfloat16: rows the tensor cores cannot take", "[gla]") {
  check<bfloat16>(of_sizes(kPacked, 2, 1, 100, 60), kAnyGates);
  check<bfloat16>(of_sizes({70}, 1, 1, 7, 3), kAnyGates);
  GlaCase shifted = of_sizes(kPacked, 2, 2, 64, 32);
  shifted.shift = 3;
  check<bfloat16>(shifted, kAnyGates);
  GlaCase stride = of_sizes({40, 90}, 1, 1, 16, 48);
  stride.stride = 1003;
  check<bfloat16>(stride, kAnyGates);
}

TEST_CASE("bfloat16: gates from none to far below what a float's exponent holds", "[gla]") {
  GlaCase c = of_sizes({300, 64, 77}, 2, 2, 64, 64);
  SECTION("none") { c.gate = nullptr; }
  SECTION("weak") { c.gate = weak_gates(); }
  SECTION("log-sigmoid") { c.gate = log_sigmoid_gates(1); }
  SECTION("at the edge of the factored form") {
    c.gate = [](double x, int64_t, int64_t channel) {
      return -1.25 - 0.002 * static_cast<double>(channel) - 1e-3 * std::abs(x);
    };
  }
  SECTION("-3") { c.gate = gates_about(-3); }
  SECTION("-10") { c.gate = gates_about(-10); }
  SECTION("mixed") { c.gate = mixed_gates(11, 29); }
  SECTION("minus infinity") { c.gate = gates_with_infinities(); }
  check<bfloat16>(c, kAnyGates);
}

// Sums of a chunk's gates above 83 go by segments of eight tokens, those of a segment's term by term.
TEST_CASE("bfloat16: one channel of 64 with strong gates, in the errors of the others", "[gla][strong]") {
  GlaCase c = of_sizes({512, 200}, 1, 1, 128, 256);
  const auto strong = [&](double gate, double noise) {
    c.gate = [=](double x, int64_t, int64_t channel) {
      return channel % 64 == 37 ? gate - noise * std::abs(x) : -std::log1p(std::exp(-x)) / 16;
    };
  };
  SECTION("at -2") { strong(-2, 0.5); }
  SECTION("at -5") { strong(-5, 0.1); }
  SECTION("at -10") { strong(-10, 0.1); }
  SECTION("at -20, term by term") { strong(-20, 1); }
  SECTION("at -110, term by term") { strong(-110, 1); }
  SECTION("in one of two panels") {
    c.gate = [](double x, int64_t, int64_t channel) {
      return channel == 70 ? -4.0 : -std::log1p(std::exp(-x)) / 16;
    };
  }
  SECTION("of some chunks") {
    c.gate = [](double x, int64_t token, int64_t channel) {
      return channel % 64 == 5 && token / 100 % 2 == 1 ? -7.0 : -std::log1p(std::exp(-x)) / 16;
    };
  }
  check<bfloat16>(c, kBfloat16);
}

TEST_CASE("bfloat16: strong gates of many channels", "[gla][strong]") {
  GlaCase c = of_sizes(kPacked, 2, 2, 128, 64);
  SECTION("at -2") { c.gate = gates_about(-2); }
  SECTION("none, minus zero and strong ones") {
    c.gate = [](double, int64_t, int64_t channel) {
      return channel % 3 == 0 ? 0.0 : channel % 3 == 1 ? -0.0 : -6.0;
    };
  }
  SECTION("tokens in turn") {
    c.gate = [](double x, int64_t token, int64_t) { return token % 2 == 0 ? -18.0 : -0.01 * std::abs(x); };
  }
  SECTION("one segment of a chunk") {
    c.gate = [](double x, int64_t token, int64_t channel) {
      return token % 64 / 8 == channel % 8 ? -10.0 : -0.05 * std::abs(x);
    };
  }
  SECTION("the first token of a segment") {
    c.gate = [](double x, int64_t token, int64_t channel) {
      return token % 8 == 0 && channel % 2 == 0 ? -75.0 : -0.05 * std::abs(x);
    };
  }
  SECTION("the last token of a segment") {
    c.gate = [](double x, int64_t token, int64_t channel) {
      return token % 8 == 7 && channel % 2 == 0 ? -80.0 : -0.05 * std::abs(x);
    };
  }
  SECTION("at the edge of a segment") {
    c.gate = [](double x, int64_t, int64_t channel) {
      return -10.2 - 0.004 * static_cast<double>(channel % 64) - 1e-3 * std::abs(x);
    };
  }
  SECTION("at -80") {
    c.gate = [](double, int64_t, int64_t) { return -80.0; };
  }
  SECTION("at -2, heads in groups") {
    c.heads = 4;
    c.gate = [](double x, int64_t, int64_t) { return -2 - 0.1 * std::abs(x); };
  }
  SECTION("from none to -9 by channels, heads in groups, half a panel") {
    c.heads = 6, c.key_size = 96;
    c.gate = [](double, int64_t, int64_t channel) { return -0.1 * static_cast<double>(channel % 96); };
  }
  check<bfloat16>(c, kAnyGates);
}

TEST_CASE("bfloat16: strong gates at sizes of heads", "[gla][strong]") {
  for (const auto& [key, value] :
       std::vector<std::pair<int64_t, int64_t>>{{8, 24}, {16, 16}, {80, 48}, {200, 136}, {320, 64}}) {
    GlaCase c = of_sizes({130, 17}, 1, 1, key, value);
    c.gate = [](double x, int64_t, int64_t channel) { return (channel % 5 == 0 ? -6 : -0.5) * std::abs(x); };
    check<bfloat16>(c, kAnyGates, static_cast<uint64_t>(key));
  }
}

TEST_CASE("bfloat16: scales, no states, no gradient through o", "[gla]") {
  GlaCase c = of_sizes({130, 70}, 2, 1, 64, 64);
  SECTION("3") { c.scale = 3; }
  SECTION("negative") { c.scale = -0.3; }
  SECTION("no states") { c.states = false; }
  SECTION("no gradient through o") { c.d_o = false; }
  check<bfloat16>(c, kAnyGates);
}

TEST_CASE("bfloat16: more than 2^31 elements from the first to the last row", "[gla]") {
  GlaCase c = of_sizes({700, 400}, 1, 1, 64, 64);
  c.stride = int64_t{1} << 21;
  check<bfloat16>(c, kAnyGates);
}

TEST_CASE("bfloat16: long sequences", "[gla][long]") {
  check<bfloat16>(of_sizes({43884}, 1, 1, 32, 32), kBfloat16);
  check<bfloat16>(of_sizes({131073}, 1, 1, 32, 32), kBfloat16);
}

TEST_CASE("float: the recurrence to 1e-5", "[gla]") {
  check<float>(of_sizes(kPacked, 4, 2, 64, 48), kFloat);
  check<float>(of_sizes(kPacked, 3, 1, 100, 36), kFloat);
  check<float>(of_sizes({300}, 1, 1, 256, 512), kFloat);
  check<float>(of_sizes({70, 3}, 1, 1, 512, 1024), kFloat);
  for (const int64_t length : {1, 7, 8, 9, 63, 64, 65}) check<float>(of_sizes({length}, 1, 1, 8, 24), kFloat);
  GlaCase c = of_sizes({300, 77}, 2, 2, 40, 40);
  c.gate = gates_with_infinities();
  check<float>(c, kFloat);
  c.gate = gates_about(-10);
  check<float>(c, kFloat);
  c.gate = nullptr;
  check<float>(c, kFloat);
  c.states = false;
  check<float>(c, kFloat);
  c.d_o = false, c.states = true;
  check<float>(c, kFloat);
}

TEST_CASE("float: long sequences", "[gla][long]") {
  check<float>(of_sizes({43884}, 1, 1, 32, 32), kFloat);
  check<float>(of_sizes({131073}, 1, 1, 32, 32), kFloat);
}

TEST_CASE("A step of generation", "[gla]") {
  GlaCase c = of_sizes({1, 1, 0, 1, 1, 1}, 4, 2, 256, 512);
  c.longest = 1, c.backward = false;
  kernels::GatedLinearAttentionForward<bfloat16> p;
  p.longest = 1, p.heads = 4, p.kv_heads = 2, p.key_size = 256, p.value_size = 512;
  CHECK(kernels::plan_of(p).path == kernels::GatedLinearAttentionPlan::Path::kStep);
  // The states come in and go out as floats: only o is rounded.
  check<bfloat16>(c, {1.8e-3, 0, 0, 1e-6});
  check<float>(c, {1e-6, 0, 0, 1e-6});
  c.key_size = 100, c.value_size = 36;
  check<bfloat16>(c, {1.8e-3, 0, 0, 1e-6});
  c.value_size = 35;  // no step kernel
  check<float>(c, {1e-6, 0, 0, 1e-6});
  c.states = false, c.value_size = 64, c.gate = nullptr;
  check<bfloat16>(c, {1.8e-3, 0, 0, 1e-6});
}

TEST_CASE("A plan can be printed", "[gla]") {
  kernels::GatedLinearAttentionForward<bfloat16> p;
  p.tokens = 16384, p.sequences = 1, p.chunks = 256, p.heads = p.kv_heads = 4, p.key_size = 256,
  p.value_size = 512;
  const kernels::GatedLinearAttentionPlan by_heads = kernels::plan_of(p);
  alignas(16) const bfloat16 gates[8] = {};
  p.g = gates, p.g_stride = 1024;
  const kernels::GatedLinearAttentionPlan by_channels = kernels::plan_of(p);
  if (by_channels.path == kernels::GatedLinearAttentionPlan::Path::kFused) {
    CHECK_THAT(by_channels.to_string(), contains("fused, 9 segments of up to 32 chunks"));
    CHECK_THAT(by_heads.to_string(), contains("fused by heads, 9 segments of up to 32 chunks"));
  }
  kernels::allow_fused_gated_linear_attention(false);
  const std::string portable = kernels::plan_of(p).to_string();
  kernels::allow_fused_gated_linear_attention(true);
  CHECK_THAT(portable, contains("chunked"));
}

TEST_CASE("Sizes that are not supported are refused by name", "[gla]") {
  kernels::GatedLinearAttentionForward<float> p;
  p.tokens = 1, p.sequences = 1, p.heads = p.kv_heads = 1, p.key_size = 1025, p.value_size = 8;
  CHECK_THROWS_WITH(kernels::cuda::gated_linear_attention_forward(p), contains("1025"));
  p.key_size = 8, p.heads = 3, p.kv_heads = 2;
  CHECK_THROWS_WITH(kernels::cuda::gated_linear_attention_forward(p), contains("no multiple"));
}

}  // namespace sluice::test
