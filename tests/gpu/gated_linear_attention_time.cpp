// Hidden: `test_gpu_gla "[.time]"` prints times, `"[.once]"` runs one shape once for a profiler.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>

#include "gpu/device_array.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "support/catch.h"

namespace sluice::test {
namespace {

constexpr int kRuns = 30;

// Random values of both signs, made once and copied: gates from -0.2 to 0, as the model's log-sigmoid / 16
// has them.
const std::vector<bfloat16>& random_rows(size_t count, bool gates) {
  static std::vector<bfloat16> kept[2];
  std::vector<bfloat16>& values = kept[gates];
  if (values.size() >= count) return values;
  values.resize(count);
  uint64_t state = gates ? 7 : 11;
  for (bfloat16& value : values) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<double>(state >> 40) / (1 << 24) - 0.5;
    }
    const double x = sum * 1.732;
    value = to_bfloat16(static_cast<float>(gates ? -std::log1p(std::exp(-x)) / 16 : x));
  }
  return values;
}
// The first `count` of them.
std::vector<bfloat16> some_rows(size_t count, bool gates) {
  const std::vector<bfloat16>& rows = random_rows(count, gates);
  return {rows.begin(), rows.begin() + static_cast<int64_t>(count)};
}

enum class Kind { kChannels, kHeads, kConstant, kNone };

struct Problem {
  int64_t tokens, sequences, heads, key_size, value_size;
  Kind kind = Kind::kChannels;
};

class Set {
 public:
  Set(const Problem& p, const std::vector<bfloat16>& rows, const std::vector<bfloat16>& gates) {
    const size_t keys = static_cast<size_t>(p.tokens * p.heads * p.key_size);
    const size_t values = static_cast<size_t>(p.tokens * p.heads * p.value_size);
    const auto copy = [](const std::vector<bfloat16>& from, size_t count) {
      auto array = std::make_unique<DeviceArray<bfloat16>>(count);
      SLUICE_CUDA_CHECK(cudaMemcpy(array->data(), from.data(), count * 2, cudaMemcpyHostToDevice));
      return array;
    };
    q = copy(rows, keys), k = copy(rows, keys), v = copy(rows, values), d_o = copy(rows, values);
    g = copy(gates, keys);
    const auto empty = [](size_t count) { return std::make_unique<DeviceArray<bfloat16>>(count); };
    o = empty(values), dq = empty(keys), dk = empty(keys), dv = empty(values), dg = empty(keys);
  }
  std::unique_ptr<DeviceArray<bfloat16>> q, k, v, g, d_o, o, dq, dk, dv, dg;
};

class Timed {
 public:
  Timed(const Problem& p, int sets) : problem_(p) {
    const size_t largest = static_cast<size_t>(p.tokens * p.heads * std::max(p.key_size, p.value_size));
    const std::vector<bfloat16>&rows = random_rows(largest, false), &gates = random_rows(largest, true);
    for (int i = 0; i < sets; ++i) sets_.push_back(std::make_unique<Set>(p, rows, gates));
    std::vector<int64_t> offsets;
    for (int64_t s = 0; s <= p.sequences; ++s) offsets.push_back(s * (p.tokens / p.sequences));
    const std::vector<int64_t> chunks = kernels::chunk_offsets(offsets.data(), p.sequences, 64);
    chunks_ = chunks.back();
    offsets_ = std::make_unique<DeviceArray<int64_t>>(offsets);
    chunk_offsets_ = std::make_unique<DeviceArray<int64_t>>(chunks);
    // As RetNet has them.
    std::vector<float> constants;
    for (int64_t h = 0; h < p.heads; ++h)
      constants.push_back(static_cast<float>(std::log(1 - std::exp2(-5.0 - static_cast<double>(h)))));
    constants_ = std::make_unique<DeviceArray<float>>(constants);
    // Forward may cut sequences where backward, which has more to do at a time, does not.
    const int64_t bytes =
        std::max(kernels::cuda::gated_linear_attention_forward_workspace(forward_params(*sets_[0])),
                 kernels::cuda::gated_linear_attention_backward_workspace(backward_params(*sets_[0])));
    workspace_ = std::make_unique<DeviceArray<char>>(static_cast<size_t>(bytes));
  }

  void forward(int i) { kernels::cuda::gated_linear_attention_forward(forward_params(set(i))); }
  void backward(int i) { kernels::cuda::gated_linear_attention_backward(backward_params(set(i))); }
  size_t workspace_bytes() const { return workspace_->size(); }

  // Every `step`-th channel decays by `gate` a token, the others as `gates` say.
  void decay_more(std::vector<bfloat16> gates, double gate, size_t step) {
    for (size_t i = 0; i < gates.size(); i += step) gates[i] = to_bfloat16(static_cast<float>(gate));
    for (const std::unique_ptr<Set>& set : sets_) {
      SLUICE_CUDA_CHECK(cudaMemcpy(set->g->data(), gates.data(), set->g->size() * sizeof(bfloat16),
                                   cudaMemcpyHostToDevice));
    }
  }

  // Median of kRuns, each on other inputs than the one before.
  template <class Body>
  double median_ms(const Body& body) {
    std::vector<float> times;
    cudaEvent_t start, stop;
    cudaEventCreate(&start), cudaEventCreate(&stop);
    for (int i = 0; i < kRuns + 3; ++i) {
      cudaEventRecord(start);
      body(i);
      cudaEventRecord(stop);
      SLUICE_CUDA_CHECK(cudaEventSynchronize(stop));
      float ms = 0;
      cudaEventElapsedTime(&ms, start, stop);
      if (i >= 3) times.push_back(ms);
    }
    cudaEventDestroy(start), cudaEventDestroy(stop);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  const Set& set(int i) const { return *sets_[static_cast<size_t>(i) % sets_.size()]; }
  template <class Params>
  void fill(Params& p, const Set& s) const {
    p.tokens = problem_.tokens, p.sequences = problem_.sequences;
    p.heads = p.kv_heads = problem_.heads, p.key_size = problem_.key_size, p.value_size = problem_.value_size;
    p.scale = 1 / std::sqrt(static_cast<double>(problem_.key_size));
    const int64_t keys = p.heads * p.key_size, values = p.heads * p.value_size;
    p.q = s.q->data(), p.q_stride = keys, p.k = s.k->data(), p.k_stride = keys;
    p.v = s.v->data(), p.v_stride = values;
    if (problem_.kind == Kind::kChannels) p.g = s.g->data(), p.g_stride = keys;
    if (problem_.kind == Kind::kHeads) p.head_g = s.g->data(), p.head_g_stride = p.heads;
    if (problem_.kind == Kind::kConstant) p.constant_g = constants_->data();
    p.offsets = offsets_->data(), p.chunk_offsets = chunk_offsets_->data(), p.chunks = chunks_;
    p.workspace = workspace_ ? workspace_->data() : nullptr;
  }
  kernels::GatedLinearAttentionForward<bfloat16> forward_params(const Set& s) const {
    kernels::GatedLinearAttentionForward<bfloat16> p;
    fill(p, s);
    p.o = s.o->data(), p.o_stride = problem_.heads * problem_.value_size;
    p.longest = problem_.tokens / problem_.sequences;
    return p;
  }
  kernels::GatedLinearAttentionBackward<bfloat16> backward_params(const Set& s) const {
    kernels::GatedLinearAttentionBackward<bfloat16> p;
    fill(p, s);
    const int64_t keys = problem_.heads * problem_.key_size, values = problem_.heads * problem_.value_size;
    p.d_o = s.d_o->data(), p.d_o_stride = values, p.dq = s.dq->data(), p.dq_stride = keys;
    p.dk = s.dk->data(), p.dk_stride = keys, p.dv = s.dv->data(), p.dv_stride = values;
    if (problem_.kind == Kind::kChannels) p.dg = s.dg->data(), p.dg_stride = keys;
    if (problem_.kind == Kind::kHeads) p.d_head_g = s.dg->data(), p.d_head_g_stride = p.heads;
    return p;
  }

  const Problem problem_;
  int64_t chunks_ = 0;
  std::vector<std::unique_ptr<Set>> sets_;
  std::unique_ptr<DeviceArray<int64_t>> offsets_, chunk_offsets_;
  std::unique_ptr<DeviceArray<float>> constants_;
  std::unique_ptr<DeviceArray<char>> workspace_;
};

void time_shape(int64_t key_size, int64_t value_size, Kind kind = Kind::kChannels) {
  const char* const kNames[] = {"", "by heads: ", "constant: ", "no decay: "};
  for (const int64_t length : {1024, 2048, 4096, 8192, 16384}) {
    Timed timed({16384, 16384 / length, 4, key_size, value_size, kind}, 3);
    const double forward = timed.median_ms([&](int i) { timed.forward(i); });
    const double both = timed.median_ms([&](int i) {
      timed.forward(i);
      timed.backward(i);
    });
    std::printf(
        "%sK %ld V %ld, %ld x %ld tokens, 4 heads: forward %.3f ms, forward + backward %.3f ms, %.0f MiB\n",
        kNames[static_cast<int>(kind)], static_cast<long>(key_size), static_cast<long>(value_size),
        static_cast<long>(16384 / length), static_cast<long>(length), forward, both,
        static_cast<double>(timed.workspace_bytes()) / (1 << 20));
    std::fflush(stdout);
  }
}

void time_step(int64_t batch) {
  constexpr int64_t kHeads = 4, kKeys = 256, kValues = 512;
  kernels::GatedLinearAttentionForward<bfloat16> p;
  p.tokens = p.sequences = p.slots = batch, p.longest = 1, p.heads = p.kv_heads = kHeads;
  p.key_size = kKeys, p.value_size = kValues;
  std::vector<int64_t> offsets(static_cast<size_t>(batch) + 1), slots(static_cast<size_t>(batch));
  for (size_t s = 0; s < offsets.size(); ++s) offsets[s] = static_cast<int64_t>(s);
  for (size_t s = 0; s < slots.size(); ++s) slots[s] = static_cast<int64_t>(s);
  const DeviceArray<int64_t> device_offsets(offsets), device_slots(slots);
  const size_t keys = static_cast<size_t>(batch * kHeads * kKeys),
               values = static_cast<size_t>(batch * kHeads * kValues);
  const DeviceArray<bfloat16> q(some_rows(keys, false)), g(some_rows(keys, true)),
      v(some_rows(values, false)), o(values);
  p.q = p.k = q.data(), p.g = g.data(), p.v = v.data(), p.o = o.data();
  p.q_stride = p.k_stride = p.g_stride = kHeads * kKeys, p.v_stride = p.o_stride = kHeads * kValues;
  p.offsets = device_offsets.data(), p.state_in = p.state_out = device_slots.data();
  const size_t elements = static_cast<size_t>(batch * kHeads * kKeys * kValues);
  // As in generation, states of the layers between come in between: more than the cache holds.
  const size_t copies = std::max<size_t>(2, (size_t{512} << 20) / (elements * 4));
  const DeviceArray<float> states(elements * copies);
  SLUICE_CUDA_CHECK(cudaMemset(states.data(), 0, states.size() * 4));
  std::vector<float> times;
  cudaEvent_t start, stop;
  cudaEventCreate(&start), cudaEventCreate(&stop);
  for (int run = 0; run < kRuns; ++run) {
    cudaEventRecord(start);
    for (size_t i = 0; i < copies; ++i) {
      p.initial_state = states.data() + i * elements, p.final_state = states.data() + i * elements;
      kernels::cuda::gated_linear_attention_forward(p);
    }
    cudaEventRecord(stop);
    SLUICE_CUDA_CHECK(cudaEventSynchronize(stop));
    float ms = 0;
    cudaEventElapsedTime(&ms, start, stop);
    times.push_back(ms / static_cast<float>(copies));
  }
  cudaEventDestroy(start), cudaEventDestroy(stop);
  std::sort(times.begin(), times.end());
  const double ms = times[times.size() / 2];
  std::printf("step, batch %ld, 4 heads of 256 x 512: %.4f ms, %.2f TB/s\n", static_cast<long>(batch), ms,
              static_cast<double>(elements) * 8 / ms / 1e9);
}

}  // namespace

TEST_CASE("Times of the model's shapes", "[.time][.time_channels]") {
  time_shape(256, 512);
  time_shape(128, 256);
  for (const int64_t batch : {1, 8, 64}) time_step(batch);
}

TEST_CASE("Times with constant decays", "[.time][.time_decay][.time_constant]") {
  time_shape(256, 512, Kind::kConstant);
  time_shape(128, 256, Kind::kConstant);
}

TEST_CASE("Times with gates of heads", "[.time][.time_decay]") {
  time_shape(256, 512, Kind::kHeads);
  time_shape(128, 256, Kind::kHeads);
}

TEST_CASE("Times without decay", "[.time][.time_decay]") {
  time_shape(256, 512, Kind::kNone);
  time_shape(128, 256, Kind::kNone);
}

TEST_CASE("One forward and backward where heads decay as a whole", "[.once_decay]") {
  for (const Kind kind : {Kind::kConstant, Kind::kHeads}) {
    for (const auto& [key_size, value_size] : {std::pair<int64_t, int64_t>{128, 256}, {256, 512}}) {
      Timed timed({16384, 8, 4, key_size, value_size, kind}, 1);
      timed.forward(0);
      timed.backward(0);
      SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
    }
  }
}

TEST_CASE("One forward and backward", "[.once]") {
  for (const int64_t sequences : {8, 1}) {
    Timed timed({16384, sequences, 4, 256, 512}, 1);
    timed.forward(0);
    timed.backward(0);
    SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
  }
}

namespace {

// In range; by segments of a chunk; term by term.
const struct {
  const char* name;
  double gate;
  size_t step;  // 0: none
} kStrongGates[] = {{"the model's gates", 0, 0},
                    {"one channel of 64 at -2", -2, 64},
                    {"one of 64 at -10", -10, 64},
                    {"all at -2", -2, 1},
                    {"all at -10", -10, 1},
                    {"one of 64 at -20, term by term", -20, 64},
                    {"all at -20, term by term", -20, 1}};

template <class Visit>
void visit_strong_gates(int sets, const Visit& visit) {
  for (const auto& [key_size, value_size] : {std::pair<int64_t, int64_t>{256, 512}, {128, 256}}) {
    Timed timed({16384, 8, 4, key_size, value_size}, sets);
    const std::vector<bfloat16> weak = random_rows(static_cast<size_t>(16384 * 4 * key_size), true);
    for (const auto& gates : kStrongGates) {
      if (gates.step > 0) timed.decay_more(weak, gates.gate, gates.step);
      visit(timed, key_size, value_size, gates.name);
    }
  }
}

}  // namespace

TEST_CASE("Times with strong gates", "[.time_strong]") {
  visit_strong_gates(3, [](Timed& timed, int64_t key_size, int64_t value_size, const char* name) {
    const double forward = timed.median_ms([&](int i) { timed.forward(i); });
    const double backward = timed.median_ms([&](int i) { timed.backward(i); });
    std::printf("K %ld V %ld, 8 x 2048 tokens, 4 heads, %s: forward %.3f ms, backward %.3f ms\n",
                static_cast<long>(key_size), static_cast<long>(value_size), name, forward, backward);
    std::fflush(stdout);
  });
}

TEST_CASE("One forward and backward with strong gates", "[.once_strong]") {
  visit_strong_gates(1, [](Timed& timed, int64_t, int64_t, const char*) {
    timed.forward(0);
    timed.backward(0);
    SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
  });
}

}  // namespace sluice::test
