// The parts of sequences in threads of one process, against the whole sequences.
#include "ops/sequence_part.h"

#include <barrier>
#include <thread>

#include "autograd/backward.h"
#include "ops/gated_linear_attention.h"
#include "ops/short_convolution.h"
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

 private:
  Meeting& meeting_;
};

enum class Decay { kChannels, kHeads, kConstant };

struct Case {
  int64_t rows = 2, length = 48;
  int64_t heads = 2, kv_heads = 2, key_size = 3, value_size = 5;
  std::vector<int32_t> starts = {};  // [rows * length], or none
  Decay decay = Decay::kChannels;
  int64_t gates() const { return decay == Decay::kChannels ? kv_heads * key_size : kv_heads; }
};

// Columns of q, k, v, g and the weight of a convolution over v.
constexpr int kInputs = 5;

std::vector<Tensor> inputs_of(const Case& c, DType dtype) {
  const int64_t tokens = c.rows * c.length;
  std::vector<Tensor> inputs = {test::random_normal({tokens, c.heads * c.key_size}, dtype, 1),
                                test::random_normal({tokens, c.kv_heads * c.key_size}, dtype, 2),
                                test::random_normal({tokens, c.kv_heads * c.value_size}, dtype, 3),
                                test::random_normal({tokens, c.gates()}, dtype, 4),
                                test::random_normal({c.kv_heads * c.value_size, 4}, dtype, 5)};
  // Log decays: at most 0, and weak enough that a state outlives a part.
  dispatch_compute(dtype, "test", [&]<class T>() {
    T* g = inputs[3].data<T>();
    for (int64_t i = 0; i < inputs[3].numel(); ++i) g[i] = -std::abs(g[i]) / 20;
  });
  return inputs;
}

// Convolution, then attention; the output and the gradients of all inputs under a fixed cotangent.
std::vector<Tensor> run(const Case& c, const std::vector<Tensor>& inputs, const Tensor& cotangent,
                        const ops::SequenceLayout& layout) {
  std::vector<Variable> in;
  for (const Tensor& input : inputs) in.emplace_back(input, true);
  const Variable v = ops::short_convolution(in[2], in[4], Variable(), layout, false).output;
  ops::GatedLinearAttentionOptions options;
  options.heads = c.heads, options.kv_heads = c.kv_heads;
  ops::StateDecay decay;
  if (c.decay == Decay::kChannels) decay.channels = in[3];
  if (c.decay == Decay::kHeads) decay.heads = in[3];
  if (c.decay == Decay::kConstant) {
    const std::vector<double> decays(static_cast<size_t>(c.kv_heads), -0.04);
    decay.constant = Tensor::from<double>({c.kv_heads}, decays).to(in[0].dtype());
  }
  const Variable output =
      ops::gated_linear_attention(in[0], in[1], v, decay, Variable(), layout, options).output;
  backward({output}, {cotangent});
  std::vector<Tensor> results = {output.value()};
  for (const Variable& input : in) {
    results.push_back(input.gradient().defined() ? input.gradient()
                                                 : Tensor::zeros(input.shape(), input.dtype(), Device::kCpu));
  }
  return results;
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
        results[static_cast<size_t>(part)] = run(c, own, cut(cotangent, c, part, parts), layout);
      });
    }
  }
  Tensor weight_gradient = Tensor::zeros(inputs[4].shape(), dtype, Device::kCpu);
  for (int part = 0; part < parts; ++part) {
    const auto& own = results[static_cast<size_t>(part)];
    for (size_t i = 0; i < kInputs; ++i) {  // the output and the gradients of q, k, v, g
      INFO("part " << part << " of " << parts << ", result " << i);
      CHECK_CLOSE(own[i], cut(whole[i], c, part, parts), tolerance, 100 * tolerance);
    }
    weight_gradient.add_from(own[kInputs]);
  }
  CHECK_CLOSE(weight_gradient, whole[kInputs], tolerance, 100 * tolerance);
}

}  // namespace

TEST_CASE("parts of a sequence give what the whole one gives") {
  for (const int parts : {1, 2, 3, 4}) {
    check_parts({}, parts, DType::kF64, 1e-12);
    check_parts({.rows = 1, .length = 600, .heads = 4, .kv_heads = 2}, parts, DType::kF64, 1e-12);
    check_parts({}, parts, DType::kF32, 2e-6);
    for (const Decay decay : {Decay::kHeads, Decay::kConstant}) {
      check_parts({.heads = 4, .decay = decay}, parts, DType::kF64, 1e-12);
    }
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

TEST_CASE("a part shorter than the convolution's reach is refused") {
  Meeting meeting(1);
  ops::SequenceLayout layout = ops::SequenceLayout::uniform(1, 2);
  layout.part = std::make_shared<ThreadPart>(meeting, 0);
  const Variable x(test::random_normal({2, 3}, DType::kF64, 1));
  CHECK_THROWS_WITH(ops::inputs_before_part(x, 3, layout),
                    test::contains("a part of 2 tokens is shorter than the 3"));
}
