#include "gpu/softmax_attention_case.h"

#include "core/error.h"

namespace sluice::test {
namespace {

TEMPLATE_TEST_CASE("softmax attention: sequences around the sizes of tiles", "", float, bfloat16) {
  for (const int64_t length : {1, 2, 15, 17, 63, 64, 65, 127, 129, 200, 330}) {
    AttentionCase c;
    c.lengths = {{length, length}}, c.heads = 2, c.kv_heads = 2, c.cancelling = length <= 2 ? 1 : 0;
    check_attention<TestType>(c);
  }
}

// Work enough for every block to draw several items, over and over: a race would move the error.
TEST_CASE("softmax attention: more items than blocks") {
  for (const int64_t head_dim : {64, 128}) {
    AttentionCase c;
    c.lengths = {{700, 700}, {1, 1}, {1000, 1100}, {0, 300}, {513, 513}}, c.heads = 16, c.kv_heads = 8;
    // A second row's dq is dS (k_0 - k_1), and delta, from the rounded o, takes part in dS at the size of the
    // terms.
    c.head_dim = head_dim, c.cancelling_elements = 0.5;
    check_attention<bfloat16>(c);
  }
}

// For a sanitizer: places of every ring used again, by an item of many tiles and by items enough that all
// blocks draw more than one.
TEST_CASE("softmax attention: small", "[.][small]") {
  for (const int64_t head_dim : {64, 128}) {
    AttentionCase c;
    c.lengths = {{330, 330}, {7, 40}}, c.heads = 2, c.head_dim = head_dim;
    check_attention<bfloat16>(c);
    c.lengths.assign(300, {40, 40}), c.heads = 1, c.cancelling_elements = 0.5;
    check_attention<bfloat16>(c);
  }
}

TEMPLATE_TEST_CASE("softmax attention: head sizes", "", float, bfloat16) {
  for (const int64_t head_dim : {1, 8, 12, 32, 63, 64, 80, 96, 128, 136, 192, 256}) {
    AttentionCase c;
    c.lengths = {{150, 150}, {70, 90}}, c.heads = 2, c.kv_heads = 2, c.head_dim = head_dim;
    check_attention<TestType>(c);
  }
}

TEMPLATE_TEST_CASE("softmax attention: shared keys", "", float, bfloat16) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{4, 1}, {6, 2}, {3, 3}}) {
    for (const int64_t head_dim : {64, 128, 256}) {
      AttentionCase c;
      c.lengths = {{140, 140}, {33, 77}}, c.heads = heads, c.kv_heads = kv_heads, c.head_dim = head_dim;
      check_attention<TestType>(c);
    }
  }
}

TEMPLATE_TEST_CASE("softmax attention: windows", "", float, bfloat16) {
  for (const int64_t window : {1, 2, 17, 64, 100, 299, 300, 1000}) {
    for (const int64_t head_dim : {64, 128}) {
      AttentionCase c;
      c.lengths = {{300, 300}, {40, 250}, {260, 270}}, c.heads = 2, c.kv_heads = 1, c.window = window;
      c.head_dim = head_dim, c.cancelling = window <= 2 ? 1 : 0;
      check_attention<TestType>(c);
    }
  }
}

TEMPLATE_TEST_CASE("softmax attention: packed sequences, some without queries or without anything", "", float,
                   bfloat16) {
  AttentionCase c;
  c.lengths = {{0, 0}, {100, 100}, {0, 130}, {1, 1}, {0, 0}, {64, 257}, {3, 3}, {0, 5}}, c.heads = 2,
  c.kv_heads = 2;
  check_attention<TestType>(c);
  c.head_dim = 128, c.window = 20;
  check_attention<TestType>(c);
  c.lengths = {{0, 40}};
  const AttentionInputs<TestType> in(c);
  AttentionOnDevice<TestType> device(c, in);
  device.forward();
  device.backward();
  const AttentionResults results = device.results();
  CHECK(results.dk == std::vector<double>(40 * 256, 0.0));
  CHECK(results.dv == std::vector<double>(40 * 256, 0.0));
}

TEMPLATE_TEST_CASE("softmax attention: few queries after many keys", "", float, bfloat16) {
  for (const int64_t head_dim : {64, 80, 128, 256}) {
    for (const int64_t queries : {1, 3, 5}) {
      for (const int64_t window : {0, 700}) {
        AttentionCase c;
        c.lengths = {{queries, 3000}, {queries, 1025}, {0, 10}, {1, 517}};
        c.heads = 4, c.kv_heads = 2, c.head_dim = head_dim, c.window = window;
        check_attention<TestType>(c);
      }
    }
  }
  AttentionCase c;
  c.heads = 20, c.kv_heads = 1, c.lengths = {{3, 1200}};
  check_attention<TestType>(c);
  c.lengths = {{50, 5000}}, c.heads = 1;
  check_attention<TestType>(c);
}

TEMPLATE_TEST_CASE("softmax attention: slices of wider rows, on any boundary, with any head size", "", float,
                   bfloat16) {
  for (const auto& [padding, offset] :
       std::vector<std::pair<int64_t, int64_t>>{{8, 0}, {24, 16}, {1, 0}, {8, 3}}) {
    for (const int64_t head_dim : {64, 128, 65}) {
      AttentionCase c;
      c.lengths = {{130, 130}, {1, 600}, {20, 70}}, c.heads = 2, c.kv_heads = 1, c.head_dim = head_dim;
      c.padding = padding, c.offset = offset;
      check_attention<TestType>(c);
    }
  }
}

TEMPLATE_TEST_CASE("softmax attention: gradients are added to, or not asked for", "", float, bfloat16) {
  for (const int64_t head_dim : {64, 128, 200}) {
    for (int wanted = 0; wanted < 8; ++wanted) {
      AttentionCase c;
      c.lengths = {{170, 170}, {20, 50}}, c.heads = 2, c.kv_heads = 1, c.head_dim = head_dim;
      c.accumulate = true, c.padding = 16;
      c.wants_dq = (wanted & 1) != 0, c.wants_dk = (wanted & 2) != 0, c.wants_dv = (wanted & 4) != 0;
      check_attention<TestType>(c);
    }
  }
}

// Scores of some 50 units either way: the running maximum rises late and by a lot.
TEMPLATE_TEST_CASE("softmax attention: steep softmax", "", float, bfloat16) {
  for (const int64_t queries : {1, 260}) {
    AttentionCase c;
    c.lengths = {{queries, 1000}}, c.spread = 4, c.heads = 2, c.kv_heads = 2;
    const AttentionInputs<TestType> in(c);
    const AttentionResults expected = expected_results(c, in);
    AttentionOnDevice<TestType> device(c, in);
    device.forward();
    const AttentionResults actual = device.results();
    check_close("o", actual.o, expected.o, c.head_dim, kAttentionTolerance<TestType>);
    check_close("lse", actual.lse, expected.lse, 1, {1e-5, 1e-3});
  }
}

TEMPLATE_TEST_CASE("softmax attention: the same bits every time, also from a graph", "", float, bfloat16) {
  for (const auto& [queries, head_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{2, 64}, {700, 64}, {700, 128}}) {
    AttentionCase c;
    c.lengths = {{queries, 900}, {queries, 1500}}, c.heads = 16, c.kv_heads = 8, c.head_dim = head_dim;
    const AttentionInputs<TestType> in(c);
    AttentionOnDevice<TestType> device(c, in), captured(c, in);
    device.forward();
    device.backward();
    const AttentionResults first = device.results();

    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    SLUICE_CUDA_CHECK(cudaStreamCreate(&stream));
    SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    captured.forward(stream);
    captured.backward(stream);
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    SLUICE_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    for (int run = 0; run < 3; ++run) {
      SLUICE_CUDA_CHECK(cudaGraphLaunch(executable, stream));
      const AttentionResults again = captured.results();
      CHECK(again.o == first.o);
      CHECK(again.lse == first.lse);
      CHECK(again.dq == first.dq);
      CHECK(again.dk == first.dk);
      CHECK(again.dv == first.dv);
    }
    SLUICE_CUDA_CHECK(cudaGraphExecDestroy(executable));
    SLUICE_CUDA_CHECK(cudaGraphDestroy(graph));
    SLUICE_CUDA_CHECK(cudaStreamDestroy(stream));
  }
}

TEMPLATE_TEST_CASE("softmax attention: NaN in a query stays in its row", "", float, bfloat16) {
  for (const int64_t queries : {1, 100}) {
    AttentionCase c;
    c.lengths = {{queries, 600}};
    AttentionInputs<TestType> in(c);
    in.q[static_cast<size_t>((queries - 1) * 64 + 5)] = std::nan("");
    AttentionOnDevice<TestType> device(c, in);
    device.forward();
    const std::vector<double> o = device.results().o;
    for (size_t i = 0; i < o.size(); ++i) {
      if (std::isnan(o[i]) != (i / 64 == static_cast<size_t>(queries) - 1))
        FAIL("element " << i << " is " << o[i]);
    }
  }
}

TEST_CASE("softmax attention: sizes that are not supported are named") {
  AttentionCase c;
  const AttentionInputs<float> in(c);
  AttentionOnDevice<float> device(c, in);
  device.forward_params().shape.head_dim = 257;
  CHECK_THROWS_WITH(device.forward(), contains("head_dim is 257"));
  device.forward_params().shape.head_dim = 64;
  device.forward_params().shape.scale = 0;
  CHECK_THROWS_WITH(device.forward(), contains("scale is 0"));
}

}  // namespace
}  // namespace sluice::test
