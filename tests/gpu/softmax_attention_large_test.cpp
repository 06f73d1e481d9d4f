// Sequences and batches whose offsets pass 2^31 elements, checked where few rows decide.
#include "gpu/softmax_attention_case.h"

namespace sluice::test {
namespace {

// q, k and v lie in one array of rows so wide that the last ones are beyond 2^31 elements; so do the results.
// The last queries are compared with the CPU's, which is given them alone, and so are the last keys'
// gradients, to which no other query adds.
TEST_CASE("softmax attention: 131073 tokens in rows of 16448 elements", "[long]") {
  constexpr int64_t kTokens = 131073, kStride = 16448, kHeadDim = 64, kChecked = 64;
  constexpr size_t kElements = static_cast<size_t>(kTokens * kStride);
  AttentionCase last;
  last.lengths = {{kChecked, kTokens}};
  AttentionInputs<bfloat16> in(last);
  const AttentionResults expected = expected_results(last, in);

  const DeviceArray<bfloat16> inputs(kElements), outputs(kElements);
  const DeviceArray<int64_t> offsets(std::vector<int64_t>{0, kTokens});
  const DeviceArray<float> lse(kTokens), delta(kTokens);
  const auto copy_columns = [&](const std::vector<double>& values, int64_t column) {
    const DeviceArray<bfloat16> dense(values);
    const int64_t rows = static_cast<int64_t>(values.size()) / kHeadDim;
    SLUICE_CUDA_CHECK(cudaMemcpy2D(inputs.data() + (kTokens - rows) * kStride + column, kStride * 2,
                                   dense.data(), kHeadDim * 2, kHeadDim * 2, static_cast<size_t>(rows),
                                   cudaMemcpyDeviceToDevice));
  };
  copy_columns(normal(kTokens * kHeadDim, 8, 1), 0);
  copy_columns(in.q, 0);
  copy_columns(in.k, 1000);
  copy_columns(in.v, 2000);
  copy_columns(normal(kTokens * kHeadDim, 9, 1), 3000);
  copy_columns(in.d_o, 3000);

  kernels::SoftmaxAttentionForward<bfloat16> f;
  f.shape = in.offsets.shape(last, offsets.data(), offsets.data());
  f.shape.longest_q = kTokens;
  f.q = inputs.data(), f.k = f.q + 1000, f.v = f.q + 2000, f.o = outputs.data();
  f.q_stride = f.k_stride = f.v_stride = f.o_stride = kStride;
  f.lse = lse.data();
  const DeviceArray<char> workspace(
      static_cast<size_t>(kernels::cuda::softmax_attention_forward_workspace(f)));
  f.workspace = workspace.data();
  kernels::cuda::softmax_attention_forward(f);
  kernels::SoftmaxAttentionBackward<bfloat16> b;
  b.shape = f.shape, b.q = f.q, b.k = f.k, b.v = f.v, b.o = f.o, b.lse = f.lse, b.d_o = f.q + 3000;
  b.q_stride = b.k_stride = b.v_stride = b.o_stride = b.d_o_stride = kStride;
  b.delta = delta.data();
  b.dq = f.o + 1000, b.dk = f.o + 2000, b.dv = f.o + 3000;
  b.dq_stride = b.dk_stride = b.dv_stride = kStride;
  const DeviceArray<char> backward_workspace(
      static_cast<size_t>(kernels::cuda::softmax_attention_backward_workspace(b)));
  b.workspace = backward_workspace.data();
  kernels::cuda::softmax_attention_backward(b);

  const auto last_rows = [&](int64_t column) {
    std::vector<bfloat16> host(kChecked * kHeadDim);
    SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
    SLUICE_CUDA_CHECK(cudaMemcpy2D(host.data(), kHeadDim * 2,
                                   outputs.data() + (kTokens - kChecked) * kStride + column, kStride * 2,
                                   kHeadDim * 2, kChecked, cudaMemcpyDeviceToHost));
    std::vector<double> values;
    for (const bfloat16 value : host) values.push_back(widened(value));
    return values;
  };
  const auto tail = [](const std::vector<double>& values) {
    return std::vector<double>(values.end() - kChecked * kHeadDim, values.end());
  };
  const AttentionTolerance tolerance = kAttentionTolerance<bfloat16>;
  check_close("o", last_rows(0), expected.o, kHeadDim, tolerance);
  check_close("dq", last_rows(1000), expected.dq, kHeadDim, tolerance);
  check_close("dk", last_rows(2000), tail(expected.dk), kHeadDim, tolerance);
  check_close("dv", last_rows(3000), tail(expected.dv), kHeadDim, tolerance);
}

TEST_CASE("softmax attention: one query after 131072 keys", "[long]") {
  AttentionCase c;
  c.lengths = {{1, 131072}}, c.heads = 4, c.kv_heads = 1;
  check_attention<bfloat16>(c);
  check_attention<float>(c);
}

}  // namespace
}  // namespace sluice::test
