// The parts of sequences in threads of one process, against the whole sequences.
#include "ops/sequence_part.h"

#include <barrier>
#include <thread>

#include "autograd/backward.h"
#include "ops/earlier_rows.h"
#include "ops/gated_linear_attention.h"
#include "ops/rotary.h"
#include "ops/short_convolution.h"
#include "ops/softmax_attention.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"

using namespace sluice;

namespace {

// What the threads of a group share.
struct Meeting {
  explicit Meeting(int count) : count(count), tensors(static_cast<size_t>(count)), barrier(count) {}
  int count;
  std::vector<Tensor> tensors;
  std::barrier<> barrier;
};

class ThreadPart final : public ops::SequencePart {
 public:
  ThreadPart(Meeting& meeting, int index) : SequencePart(index, meeting.count), meeting_(meeting) {}
  Tensor gather(const Tensor& mine) const override {
    meeting_.tensors[static_cast<size_t>(index())] = mine;
    meeting_.barrier.arrive_and_wait();
    const Tensor all = Tensor::empty({count(), mine.numel()}, mine.dtype(), mine.device());
    for (int part = 0; part < count(); ++part) {
      all.narrow(0, part, 1).copy_from(meeting_.tensors[static_cast<size_t>(part)].view({1, mine.numel()}));
    }
    meeting_.barrier.arrive_and_wait();
    return all;
  }
  Tensor exchange(const Tensor& mine) const override {
    meeting_.tensors[static_cast<size_t>(index())] = mine;
    meeting_.barrier.arrive_and_wait();
    const Tensor theirs = Tensor::empty(mine.shape(), mine.dtype(), mine.device());
    for (int part = 0; part < count(); ++part) {
      const Tensor& sent = meeting_.tensors[static_cast<size_t>(part)];
      theirs.narrow(0, part, 1).copy_from(sent.narrow(0, index(), 1));
    }
    meeting_.barrier.arrive_and_wait();
    return theirs;
  }

 private:
  Meeting& meeting_;
};

struct Case {
  int64_t rows = 2, length = 48;
  int64_t heads = 2, kv_heads = 2, key_size = 3, value_size = 5;
  std::vector<int32_t> starts = {};  // [rows * length], or none
  int64_t window = -1;               // of softmax attention; -1: gated linear attention
};

// Columns of q, k, v, g and the weight of a convolution over v.
constexpr int kInputs = 5;

std::vector<Tensor> inputs_of(const Case& c, DType dtype) {
  const int64_t tokens = c.rows * c.length;
  std::vector<Tensor> inputs = {test::random_normal({tokens, c.heads * c.key_size}, dtype, 1),
                                test::random_normal({tokens, c.kv_heads * c.key_size}, dtype, 2),
                                test::random_normal({tokens, c.kv_heads * c.value_size}, dtype, 3),
                                test::random_normal({tokens, c.kv_heads * c.key_size}, dtype, 4),
                                test::random_normal({c.kv_heads * c.value_size, 4}, dtype, 5)};
  // Log decays: at most 0, and weak enough that a state outlives a part.
  dispatch_compute(dtype, "test", [&]<class T>() {
    T* g = inputs[3].data<T>();
    for (int64_t i = 0; i < inputs[3].numel(); ++i) g[i] = -std::abs(g[i]) / 20;
  });
  return inputs;
}

std::vector<Tensor> finish(const std::vector<Variable>& in, const Variable& output, const Tensor& cotangent) {
  backward({output}, {cotangent});
  std::vector<Tensor> results = {output.value()};
  for (const Variable& input : in) results.push_back(input.gradient());
  return results;
}

// Softmax attention of turned queries and keys; g and the weight stay out of it.
Variable attend(const Case& c, const std::vector<Variable>& in, const ops::SequenceLayout& layout) {
  const auto turned = [&](const Variable& x, int64_t heads) {
    return ops::rotary(x, ops::rotary_table_of(layout, c.key_size, 10000.0, x.dtype(), Device::kCpu), heads);
  };
  ops::SoftmaxAttentionOptions options;
  options.heads = c.heads, options.kv_heads = c.kv_heads, options.window = c.window, options.scale = 0.7;
  options.q_offsets = options.k_offsets = layout.indices().offsets;
  const Variable q = turned(in[0], c.heads);
  Variable k = turned(in[1], c.kv_heads), v = in[2];
  if (layout.part != nullptr) {
    const ops::EarlierRows& earlier = ops::earlier_rows_of(layout, c.window);
    k = earlier.join(k), v = earlier.join(v);
    options.k_offsets = earlier.offsets();
  }
  return ops::softmax_attention(q, k, v, options);
}

// Convolution, then attention; the output and the gradients of all inputs under a fixed cotangent.
std::vector<Tensor> run(const Case& c, const std::vector<Tensor>& inputs, const Tensor& cotangent,
                        const ops::SequenceLayout& layout) {
  std::vector<Variable> in;
  for (const Tensor& input : inputs) in.emplace_back(input, true);
  if (c.window >= 0) return finish(in, attend(c, in, layout), cotangent);
  const Variable v = ops::short_convolution(in[2], in[4], Variable(), layout, false).output;
  ops::GatedLinearAttentionOptions options;
  options.heads = c.heads, options.kv_heads = c.kv_heads;
  const Variable output =
      ops::gated_linear_attention(in[0], in[1], v, in[3], Variable(), layout, options).output;
  return finish(in, output, cotangent);
}

// Rows [part's tokens of each row] of a tensor of all tokens.
Tensor cut(const Tensor& whole, const Case& c, int part, int parts) {
  const int64_t length = c.length / parts, columns = whole.size(1);
  const Tensor result = Tensor::empty({c.rows * length, columns}, whole.dtype(), Device::kCpu);
  for (int64_t row = 0; row < c.rows; ++row) {
    result.narrow(0, row * length, length).copy_from(whole.narrow(0, row * c.length + part * length, length));
  }
  return result;
}

// Of each row, from the start of the document that goes on at `first`.
std::vector<int64_t> tokens_before(const Case& c, int64_t first) {
  std::vector<int64_t> tokens;
  for (int64_t row = 0; row < c.rows; ++row) {
    int64_t start = 0;
    for (int64_t t = 0; t < first && !c.starts.empty(); ++t) {
      if (c.starts[static_cast<size_t>(row * c.length + t)] != 0) start = t;
    }
    tokens.push_back(first - start);
  }
  return tokens;
}

void check_parts(const Case& c, int parts, DType dtype, double tolerance) {
  const std::vector<Tensor> inputs = inputs_of(c, dtype);
  const Tensor cotangent = test::random_normal({c.rows * c.length, c.heads * c.value_size}, dtype, 6);
  const auto whole = run(c, inputs, cotangent, ops::SequenceLayout::cut_at(c.rows, c.length, c.starts));

  Meeting meeting(parts);
  std::vector<std::vector<Tensor>> results(static_cast<size_t>(parts));
  {
    std::vector<std::jthread> threads;
    for (int part = 0; part < parts; ++part) {
      threads.emplace_back([&, part] {
        std::vector<Tensor> own;
        for (int i = 0; i < 4; ++i) own.push_back(cut(inputs[static_cast<size_t>(i)], c, part, parts));
        own.push_back(inputs[4].clone());
        const int64_t length = c.length / parts;
        std::vector<int32_t> starts;
        for (int64_t row = 0; row < c.rows && !c.starts.empty(); ++row) {
          const auto begin = c.starts.begin() + row * c.length + part * length;
          starts.insert(starts.end(), begin, begin + length);
        }
        ops::SequenceLayout layout = ops::SequenceLayout::cut_at(c.rows, length, starts);
        layout.part = std::make_shared<ThreadPart>(meeting, part);
        layout.before = tokens_before(c, part * length);
        results[static_cast<size_t>(part)] = run(c, own, cut(cotangent, c, part, parts), layout);
      });
    }
  }
  const bool softmax = c.window >= 0;
  Tensor weight_gradient = Tensor::zeros(inputs[4].shape(), dtype, Device::kCpu);
  for (int part = 0; part < parts; ++part) {
    const auto& own = results[static_cast<size_t>(part)];
    // The output and the gradients of q, k, v and, where it is read, g.
    for (size_t i = 0; i < (softmax ? kInputs - 1 : kInputs); ++i) {
      INFO("part " << part << " of " << parts << ", result " << i);
      CHECK_CLOSE(own[i], cut(whole[i], c, part, parts), tolerance, 100 * tolerance);
    }
    if (!softmax) weight_gradient.add_from(own[kInputs]);
  }
  if (softmax) return;
  CHECK_CLOSE(weight_gradient, whole[kInputs], tolerance, 100 * tolerance);
}

}  // namespace

TEST_CASE("parts of a sequence give what the whole one gives") {
  for (const int parts : {1, 2, 3, 4}) {
    check_parts({}, parts, DType::kF64, 1e-12);
    check_parts({.rows = 1, .length = 600, .heads = 4, .kv_heads = 2}, parts, DType::kF64, 1e-12);
    check_parts({}, parts, DType::kF32, 2e-6);
  }
}

TEST_CASE("parts begin documents where the whole sequence does") {
  Case c{.rows = 3, .length = 24};
  // In the middle of a part, at a part's first token, and a token before a part ends; a row without any.
  for (const int64_t start : {5, 12, 17, 24 + 11, 24 + 18}) {
    c.starts.resize(static_cast<size_t>(c.rows * c.length));
    c.starts[static_cast<size_t>(start)] = 1;
  }
  for (const int parts : {2, 4}) check_parts(c, parts, DType::kF64, 1e-12);
}

TEST_CASE("softmax attention over parts sees what it sees in the whole sequence") {
  const Case all{.key_size = 4, .value_size = 4, .window = 0};
  Case documents = all;
  documents.starts.resize(static_cast<size_t>(all.rows * all.length));
  // In the first part, at the start of another one, and twice in one; the second row's first goes on for
  // long.
  for (const int64_t start : {3, 24, 30, 31, 48 + 5}) documents.starts[static_cast<size_t>(start)] = 1;
  for (const int parts : {1, 2, 3, 4}) {
    // Windows of nothing but a token, inside a part, and over several.
    for (const int64_t window : {0, 1, 2, 7, 13, 20, 1000}) {
      for (Case c : {all, documents}) {
        c.window = window;
        INFO("window " << window);
        check_parts(c, parts, DType::kF64, 1e-12);
      }
    }
    check_parts({.heads = 4, .kv_heads = 2, .key_size = 4, .value_size = 4, .window = 0}, parts, DType::kF32,
                2e-6);
  }
}

TEST_CASE("a part shorter than the convolution's reach is refused") {
  Meeting meeting(1);
  ops::SequenceLayout layout = ops::SequenceLayout::uniform(1, 2);
  layout.part = std::make_shared<ThreadPart>(meeting, 0);
  const Variable x(test::random_normal({2, 3}, DType::kF64, 1));
  CHECK_THROWS_WITH(ops::inputs_before_part(x, 3, layout),
                    test::contains("a part of 2 tokens is shorter than the 3"));
}
