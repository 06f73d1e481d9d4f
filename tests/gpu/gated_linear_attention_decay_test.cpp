// Gated linear attention on the GPU where heads decay as a whole, by tokens or always the same, or not at
// all.
#include "gpu/gated_linear_attention_check.h"

namespace sluice::test {
namespace {

// Of a few values the largest error counts: three times the RMS of many.
constexpr Limits kFewTokens = {3.3e-3, 3.3e-3, 6.6e-3, 3.3e-3};

using Path = kernels::GatedLinearAttentionPlan::Path;

// Gates of whole heads with the memory that the model's have, about 20 tokens.
GlaCase by_heads(GlaCase c) {
  c.decay = GlaDecay::kHeads;
  return c;
}
GlaCase constant(GlaCase c) {
  c.decay = GlaDecay::kConstant;
  c.gate = [](double, int64_t, int64_t head) { return -0.05 - 0.004 * static_cast<double>(head % 4); };
  return c;
}
// As RetNet has them: memories of 32 to 256 tokens.
GlaCase slow(GlaCase c) {
  c.decay = GlaDecay::kConstant;
  c.gate = [](double, int64_t, int64_t head) {
    return std::log(1 - std::exp2(-5.0 - static_cast<double>(head % 4)));
  };
  return c;
}
GlaCase without(GlaCase c) {
  c.gate = nullptr;
  return c;
}

// The lengths are known, as ops have it.
GlaCase of_known_sizes(std::vector<int64_t> lengths, int64_t heads, int64_t key_size, int64_t value_size) {
  GlaCase c = of_sizes(std::move(lengths), heads, heads, key_size, value_size);
  c.longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  return c;
}
kernels::GatedLinearAttentionPlan forward_plan(const GlaCase& c) {
  kernels::GatedLinearAttentionForward<bfloat16> p;
  p.tokens = c.tokens(), p.sequences = static_cast<int64_t>(c.lengths.size()), p.longest = c.longest;
  for (const int64_t length : c.lengths) p.chunks += (length + 63) / 64;
  p.heads = c.heads, p.kv_heads = c.kv_heads, p.key_size = c.key_size, p.value_size = c.value_size;
  return kernels::plan_of(p);
}
// Blocks walk what lies before their segments themselves, `segments` a sequence.
void check_leads(const GlaCase& c, int64_t segments) {
  const kernels::GatedLinearAttentionPlan plan = forward_plan(c);
  if (plan.path != Path::kFused) return;
  INFO(plan.to_string());
  CHECK(plan.segments_lead);
  CHECK(plan.segment_slots == segments * static_cast<int64_t>(c.lengths.size()));
}

template <class T>
void check_kinds(const GlaCase& c, const Limits& limits, const Limits& slow_limits, uint64_t seed = 1) {
  check<T>(by_heads(c), limits, seed);
  check<T>(constant(c), limits, seed);
  check<T>(without(c), slow_limits, seed);
}

}  // namespace

TEST_CASE("bfloat16, heads decay as a whole: the model's head sizes within the errors of its gates",
          "[gla][decay]") {
  check_kinds<bfloat16>(of_sizes({1000, 536}, 2, 2, 128, 256), kBfloat16, kAnyGates);
  check_kinds<bfloat16>(of_sizes({512}, 1, 1, 256, 512), kBfloat16, kAnyGates);
  check<bfloat16>(slow(of_sizes({1000, 536}, 4, 4, 64, 128)), kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: packed sequences with empty ones", "[gla][decay]") {
  check_kinds<bfloat16>(of_sizes(kPacked, 2, 2, 64, 64), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes(kPacked, 2, 2, 256, 136), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes(kPacked, 2, 2, 200, 320), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes(kPacked, 4, 2, 128, 64), kAnyGates, kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: all lengths around a chunk", "[gla][decay]") {
  for (const int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129}) {
    check_kinds<bfloat16>(of_sizes({length}, 1, 1, 64, 64), kFewTokens, kFewTokens,
                          static_cast<uint64_t>(length));
    check<bfloat16>(by_heads(of_sizes({length}, 1, 1, 136, 512)), kFewTokens, static_cast<uint64_t>(length));
  }
}

TEST_CASE("bfloat16, heads decay as a whole: few long sequences, cut into segments", "[gla][decay][long]") {
  check_kinds<bfloat16>(of_sizes({3000, 64, 0, 2300, 513}, 1, 1, 64, 64), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes({1311}, 2, 2, 128, 256), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes({2100, 0}, 1, 1, 256, 400), kAnyGates, kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: a long sequence", "[gla][decay][long]") {
  check<bfloat16>(by_heads(of_sizes({20001}, 1, 1, 32, 32)), kBfloat16);
  check<bfloat16>(constant(of_sizes({20001}, 1, 1, 32, 32)), kBfloat16);
}

TEST_CASE("bfloat16, heads decay as a whole: forward over segments in one launch",
          "[gla][decay][decay_lead][long]") {
  const GlaCase packed = of_known_sizes({1100, 65, 0, 700, 830}, 2, 128, 256);
  check_leads(packed, 2);
  check_kinds<bfloat16>(packed, kAnyGates, kAnyGates);
  const GlaCase around = of_known_sizes({1088, 1152, 1151, 1153, 769, 768, 767}, 1, 64, 64);
  check_leads(around, 2);
  check_kinds<bfloat16>(around, kAnyGates, kAnyGates);
  const GlaCase three = of_known_sizes({1311}, 2, 128, 256);
  check_leads(three, 3);
  check_kinds<bfloat16>(three, kAnyGates, kAnyGates);
  const GlaCase large = of_known_sizes({1130, 0}, 1, 200, 400);
  check_leads(large, 2);
  check_kinds<bfloat16>(large, kAnyGates, kAnyGates);
  GlaCase stateless = packed;
  stateless.states = false;
  check<bfloat16>(by_heads(stateless), kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: forward over segments in one launch, gates of any size",
          "[gla][decay][decay_lead]") {
  GlaCase c = of_known_sizes({1100, 0, 200}, 2, 64, 64);
  check_leads(c, 2);
  c.decay = GlaDecay::kHeads;
  SECTION("weak") { c.gate = weak_gates(); }
  SECTION("-3") { c.gate = gates_about(-3); }
  SECTION("mixed") { c.gate = mixed_gates(211, 629); }
  SECTION("slow and constant") { c = slow(c); }
  check<bfloat16>(c, kAnyGates);
}

TEST_CASE(
    "Heads that decay as a whole: one launch over segments only where lengths are known and it ends first",
    "[gla][decay][decay_lead]") {
  GlaCase c = of_known_sizes(std::vector<int64_t>(8, 2048), 4, 128, 256);
  check_leads(c, 2);
  if (forward_plan(c).path != Path::kFused) return;
  CHECK_THAT(forward_plan(c).to_string(), contains("16 segments of up to 21 chunks in one launch"));
  CHECK(forward_plan(c).bytes == 0);
  c.longest = 0;
  CHECK_FALSE(forward_plan(c).segments_lead);
  CHECK_FALSE(forward_plan(of_known_sizes({15000, 64, 64, 64}, 4, 128, 256)).segments_lead);
  CHECK_FALSE(forward_plan(of_known_sizes(std::vector<int64_t>(16, 1024), 4, 128, 256)).segments_lead);
}

// Both have the errors of kAnyGates.
TEST_CASE(
    "bfloat16, heads decay as a whole: long sequences of the model's heads as the chunked path has them",
    "[gla][decay][long]") {
  constexpr Limits kBoth = {4.6e-3, 4.6e-3, 4.6e-3, 4.6e-3};
  check_fused(slow(of_sizes({2048, 2048}, 4, 4, 256, 512)), kBoth);  // only forward is cut
  check_fused(slow(of_sizes({5000, 3000}, 2, 2, 256, 512)), kBoth);
  check_fused(slow(of_sizes({8192}, 4, 4, 128, 256)), kBoth);
  check_fused(slow(of_known_sizes(std::vector<int64_t>(8, 2048), 4, 128, 256)), kBoth);  // in one launch
}

TEST_CASE("bfloat16, heads decay as a whole: sequences and heads enough without segments", "[gla][decay]") {
  std::vector<int64_t> lengths;
  for (int64_t s = 0; s < 26; ++s) lengths.push_back(s % 5 == 3 ? 0 : s % 3 == 0 ? 90 : 45 + 7 * s);
  check_kinds<bfloat16>(of_sizes(lengths, 4, 4, 72, 264), kAnyGates, kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: sizes and rows for other paths", "[gla][decay]") {
  check_kinds<bfloat16>(of_sizes({200, 70}, 1, 1, 320, 64), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes({200, 70}, 1, 1, 64, 1024), kAnyGates, kAnyGates);
  check_kinds<bfloat16>(of_sizes(kPacked, 2, 1, 100, 60), kAnyGates, kAnyGates);
  GlaCase shifted = of_sizes(kPacked, 2, 2, 64, 32);
  shifted.shift = 3;
  check_kinds<bfloat16>(shifted, kAnyGates, kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: gates from weak to far below what a float's exponent holds",
          "[gla][decay]") {
  GlaCase c = of_sizes({300, 64, 77}, 2, 2, 64, 64);
  c.decay = GlaDecay::kHeads;
  SECTION("weak") { c.gate = weak_gates(); }
  SECTION("log-sigmoid") { c.gate = log_sigmoid_gates(1); }
  SECTION("-3") { c.gate = gates_about(-3); }
  SECTION("-10") { c.gate = gates_about(-10); }
  SECTION("mixed") { c.gate = mixed_gates(11, 29); }
  SECTION("minus infinity") { c.gate = gates_with_infinities(); }
  SECTION("constant and strong") {
    c.decay = GlaDecay::kConstant;
    c.gate = [](double, int64_t, int64_t head) { return head == 0 ? -3.0 : -10.0; };
  }
  check<bfloat16>(c, kAnyGates);
}

TEST_CASE("bfloat16, heads decay as a whole: scales, no states, no gradient through o", "[gla][decay]") {
  GlaCase c = of_sizes({130, 70}, 2, 2, 64, 264);
  SECTION("3") { c.scale = 3; }
  SECTION("negative") { c.scale = -0.3; }
  SECTION("no states") { c.states = false; }
  SECTION("no gradient through o") { c.d_o = false; }
  check_kinds<bfloat16>(c, kAnyGates, kAnyGates);
}

// For a sanitizer: all kernels, cut into segments in one launch or two or not, with a part of V in one block
// or two.
TEST_CASE("bfloat16, heads decay as a whole: small", "[.][small]") {
  check<bfloat16>(constant(of_sizes({130, 7}, 1, 1, 64, 64)), kAnyGates);
  check<bfloat16>(constant(of_sizes({1100}, 1, 1, 128, 128)), kAnyGates);
  check<bfloat16>(constant(of_known_sizes({1100}, 1, 128, 128)), kAnyGates);
  check<bfloat16>(by_heads(of_sizes({130}, 1, 1, 136, 264)), kAnyGates);
  check<bfloat16>(without(of_sizes({130}, 1, 1, 136, 264)), kAnyGates);
}

TEST_CASE("float, heads decay as a whole: the recurrence to 1e-5", "[gla][decay]") {
  check_kinds<float>(of_sizes(kPacked, 4, 2, 64, 48), kFloat, kFloat);
  check_kinds<float>(of_sizes({300}, 1, 1, 256, 512), kFloat, kFloat);
  check<float>(slow(of_sizes({700}, 4, 4, 40, 40)), kFloat);
  GlaCase c = by_heads(of_sizes({300, 77}, 2, 2, 40, 40));
  c.gate = gates_with_infinities();
  check<float>(c, kFloat);
}

TEST_CASE("A step of generation where heads decay as a whole", "[gla][decay]") {
  GlaCase c = of_sizes({1, 1, 0, 1, 1, 1}, 4, 2, 256, 512);
  c.longest = 1, c.backward = false;
  check_kinds<bfloat16>(c, {1.8e-3, 0, 0, 1e-6}, {1.8e-3, 0, 0, 1e-6});
  check_kinds<float>(c, {1e-6, 0, 0, 1e-6}, {1e-6, 0, 0, 1e-6});
}

TEST_CASE("Decays of two kinds are refused", "[gla][decay]") {
  kernels::GatedLinearAttentionForward<float> p;
  const float gate = 0;
  p.heads = p.kv_heads = p.key_size = p.value_size = 8;
  p.g = p.head_g = &gate;
  CHECK_THROWS_WITH(kernels::plan_of(p), contains("one kind"));
}

TEST_CASE("Heads that decay as a whole have a fused path", "[gla][decay]") {
  const auto fill = [](auto& p) {
    p.tokens = 16384, p.sequences = 8, p.chunks = 256, p.heads = p.kv_heads = 4, p.key_size = 256,
    p.value_size = 512;
  };
  kernels::GatedLinearAttentionForward<bfloat16> forward;
  kernels::GatedLinearAttentionBackward<bfloat16> backward;
  fill(forward), fill(backward);
  alignas(16) bfloat16 row[8] = {};
  backward.d_o = row;
  if (kernels::plan_of(forward).path != Path::kFused) return;
  CHECK_THAT(kernels::plan_of(forward).to_string(), contains("fused by heads"));
  CHECK_THAT(kernels::plan_of(backward).to_string(), contains("fused by heads"));
  // The gradient of a head's gate comes from those of its channels.
  backward.head_g = row, backward.d_head_g = row;
  CHECK(kernels::plan_of(backward).path == Path::kFused);
  CHECK_FALSE(kernels::plan_of(backward).by_heads);
}

}  // namespace sluice::test
