// Times, not run by default: test_gpu_softmax_attention "[.time]".
#include "gpu/softmax_attention_case.h"

namespace sluice::test {
namespace {

constexpr int kWarmUps = 5, kRuns = 25;

// A stream to capture and to time on.
class TimedStream {
 public:
  TimedStream() {
    SLUICE_CUDA_CHECK(cudaStreamCreate(&stream_));
    SLUICE_CUDA_CHECK(cudaEventCreate(&start_));
    SLUICE_CUDA_CHECK(cudaEventCreate(&stop_));
  }
  ~TimedStream() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(stream_);
  }
  TimedStream(const TimedStream&) = delete;
  TimedStream& operator=(const TimedStream&) = delete;

  cudaStream_t get() const { return stream_; }
  // Milliseconds, the median of replays of a graph of the call.
  template <class Call>
  double median_time(Call&& call) const {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    call();
    SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    call();
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    SLUICE_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<float> times;
    for (int run = -kWarmUps; run < kRuns; ++run) {
      SLUICE_CUDA_CHECK(cudaEventRecord(start_, stream_));
      SLUICE_CUDA_CHECK(cudaGraphLaunch(executable, stream_));
      SLUICE_CUDA_CHECK(cudaEventRecord(stop_, stream_));
      SLUICE_CUDA_CHECK(cudaEventSynchronize(stop_));
      float time = 0;
      SLUICE_CUDA_CHECK(cudaEventElapsedTime(&time, start_, stop_));
      if (run >= 0) times.push_back(time);
    }
    SLUICE_CUDA_CHECK(cudaGraphExecDestroy(executable));
    SLUICE_CUDA_CHECK(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

// Random values, the same million over and over: drawing all would take longer than all the runs.
template <class T>
class RandomArray : public DeviceArray<T> {
 public:
  RandomArray(int64_t count, uint64_t seed) : DeviceArray<T>(static_cast<size_t>(count)) {
    constexpr size_t kDrawn = 1 << 20;
    const DeviceArray<T> drawn(normal(kDrawn, seed, 1));
    for (size_t at = 0; at < this->size(); at += kDrawn) {
      SLUICE_CUDA_CHECK(cudaMemcpy(this->data() + at, drawn.data(),
                                   std::min(kDrawn, this->size() - at) * sizeof(T),
                                   cudaMemcpyDeviceToDevice));
    }
  }
};

// Equally long sequences.
template <class T>
struct TimedAttention {
  explicit TimedAttention(const AttentionCase& c)
      : offsets(c),
        q_offsets(offsets.q),
        k_offsets(offsets.k),
        q_columns(c.heads * c.head_dim),
        k_columns(c.kv_heads * c.head_dim),
        q_elements(offsets.q.back() * q_columns),
        k_elements(offsets.k.back() * k_columns) {
    f.shape = offsets.shape(c, q_offsets.data(), k_offsets.data());
    f.stream = b.stream = stream.get();
    f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data(), f.lse = lse.data();
    f.q_stride = f.o_stride = q_columns, f.k_stride = f.v_stride = k_columns;
    workspace = std::make_unique<DeviceArray<char>>(
        static_cast<size_t>(kernels::cuda::softmax_attention_forward_workspace(f)));
    f.workspace = workspace->data();
    b.shape = f.shape, b.q = f.q, b.k = f.k, b.v = f.v, b.o = f.o, b.lse = f.lse, b.d_o = d_o.data();
    b.q_stride = b.o_stride = b.d_o_stride = b.dq_stride = q_columns;
    b.k_stride = b.v_stride = b.dk_stride = b.dv_stride = k_columns;
    b.delta = delta.data(), b.dq = dq.data(), b.dk = dk.data(), b.dv = dv.data();
    backward_workspace = std::make_unique<DeviceArray<char>>(
        static_cast<size_t>(kernels::cuda::softmax_attention_backward_workspace(b)));
    b.workspace = backward_workspace->data();
  }

  double forward_time() {
    return stream.median_time([this] { kernels::cuda::softmax_attention_forward(f); });
  }
  double backward_time() {
    return stream.median_time([this] { kernels::cuda::softmax_attention_backward(b); });
  }
  double both_time() {
    return stream.median_time([this] {
      kernels::cuda::softmax_attention_forward(f);
      kernels::cuda::softmax_attention_backward(b);
    });
  }

  TimedStream stream;
  AttentionOffsets offsets;
  DeviceArray<int64_t> q_offsets, k_offsets;
  int64_t q_columns, k_columns, q_elements, k_elements;
  RandomArray<T> q{q_elements, 1}, k{k_elements, 2}, v{k_elements, 3}, d_o{q_elements, 4};
  DeviceArray<T> o{static_cast<size_t>(q_elements)}, dq{static_cast<size_t>(q_elements)};
  DeviceArray<T> dk{static_cast<size_t>(k_elements)}, dv{static_cast<size_t>(k_elements)};
  DeviceArray<float> lse{static_cast<size_t>(q_elements)}, delta{static_cast<size_t>(q_elements)};
  std::unique_ptr<DeviceArray<char>> workspace, backward_workspace;
  kernels::SoftmaxAttentionForward<T> f;
  kernels::SoftmaxAttentionBackward<T> b;
};

// Prints times, alone and together, and rates: of causal attention's 2 products forward and 5 backward, each
// over half the scores. Where gradients have a choice, then what forward takes with one pass and with two.
template <class T>
void print_times(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t length,
                 bool on_hopper = true) {
  AttentionCase c;
  c.lengths.assign(static_cast<size_t>(tokens / length), {length, length});
  c.heads = heads, c.kv_heads = kv_heads, c.head_dim = head_dim;
  const bool hopper = on_hopper && has_hopper_paths<T>(c);
  kernels::allow_hopper_attention(hopper, kernels::GradientPasses::kOne);  // which wants more workspace
  TimedAttention<T> timed(c);
  kernels::allow_hopper_attention(hopper);
  const double forward = timed.forward_time();
  T *const dq = timed.b.dq, *const dk = timed.b.dk, *const dv = timed.b.dv;
  timed.b.dk = timed.b.dv = nullptr;
  const double queries = timed.backward_time();
  timed.b.dq = nullptr, timed.b.dk = dk, timed.b.dv = dv;
  const double keys = timed.backward_time();
  timed.b.dq = dq;
  const double both = timed.both_time();
  const double product = static_cast<double>(tokens * length) * static_cast<double>(heads * head_dim) * 1e-9;
  std::printf("%s %2d/%-2d x %-3d %6d  %7.3f (%3.0f)  %7.3f  %7.3f  %7.3f (%3.0f)",
              sizeof(T) == 4 ? "f32  "
              : hopper       ? "wgmma"
                             : "mma  ",
              static_cast<int>(heads), static_cast<int>(kv_heads), static_cast<int>(head_dim),
              static_cast<int>(length), forward, 2 * product / forward, queries, keys, both,
              7 * product / both);
  if (hopper) {
    for (const auto passes : {kernels::GradientPasses::kOne, kernels::GradientPasses::kTwo}) {
      kernels::allow_hopper_attention(true, passes);
      std::printf("  %7.3f", timed.both_time());
    }
  }
  std::printf("\n");
  kernels::allow_hopper_attention(true);
}

void print_times_of_training(bool on_hopper) {
  std::printf("heads x D  length  forward ms (TFLOP/s)  dq  dk, dv (delta in both)  forward and backward%s\n",
              on_hopper ? ", with one pass backward, with two" : "");
  for (const int64_t heads : {16, 32}) {
    for (const int64_t length : {1024, 2048, 4096, 8192, 16384}) {
      print_times<bfloat16>(16384, heads, heads, 64, length, on_hopper);
    }
  }
  for (const int64_t length : {2048, 4096, 8192, 16384}) {
    print_times<bfloat16>(16384, 16, 16, 128, length, on_hopper);
  }
  print_times<bfloat16>(16384, 32, 4, 128, 4096, on_hopper);
}

TEST_CASE("softmax attention: times of training at 16384 tokens", "[.time]") {
  print_times_of_training(true);
}

TEST_CASE("softmax attention: the same without the kernels of sm_90a", "[.time]") {
  print_times_of_training(false);
}

TEST_CASE("softmax attention: times of other kinds", "[.time]") {
  print_times<bfloat16>(4096, 4, 4, 256, 2048);
  print_times<float>(4096, 16, 16, 64, 2048);
}

TEST_CASE("softmax attention: times of decoding", "[.time]") {
  struct Size {
    int64_t sequences, heads, kv_heads, head_dim, keys;
  };
  for (const Size& t : std::vector<Size>{{1, 16, 16, 64, 131072},
                                         {1, 32, 4, 128, 131072},
                                         {1, 8, 1, 256, 131072},
                                         {32, 16, 16, 64, 4096},
                                         {1, 16, 16, 64, 4096}}) {
    AttentionCase c;
    c.lengths.assign(static_cast<size_t>(t.sequences), {1, t.keys});
    c.heads = t.heads, c.kv_heads = t.kv_heads, c.head_dim = t.head_dim;
    const double time = TimedAttention<bfloat16>(c).forward_time();
    const double bytes = 4.0 * static_cast<double>(t.sequences * t.kv_heads * t.head_dim * t.keys);
    std::printf("decode %2d x %2d/%2d x %-3d %6d keys: %7.1f us, %.2f TB/s\n", static_cast<int>(t.sequences),
                static_cast<int>(t.heads), static_cast<int>(t.kv_heads), static_cast<int>(t.head_dim),
                static_cast<int>(t.keys), time * 1e3, bytes / time * 1e-9);
  }
}

}  // namespace
}  // namespace sluice::test
