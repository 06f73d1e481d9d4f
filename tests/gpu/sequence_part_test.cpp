#include "gpu/kernel_case.h"
#include "kernels/sequence_part/state_fold.h"

using namespace sluice;
using namespace sluice::test;

namespace {

struct DecayCase {
  std::vector<int64_t> begin, end, passes;
  int64_t tokens, channels;
  Layout layout;
  bool has_decay = true;
};

template <class T>
void check_decay(const DecayCase& c) {
  const auto slots = static_cast<int64_t>(c.begin.size());
  // Weak enough that the product over thousands of tokens is not zero.
  Matrix<T> g(c.tokens, c.channels, c.layout, 1, 1e-2);
  Matrix<float> decay(slots, c.channels, Layout::kDense, 0, 0);
  const DeviceArray<int64_t> begin(c.begin), end(c.end), passes(c.passes);
  const auto fill = [&](auto& p) {
    p.slots = slots, p.channels = c.channels, p.g_stride = g.stride();
    for (int64_t slot = 0; slot < slots; ++slot)
      p.longest = std::max(p.longest, c.end[static_cast<size_t>(slot)] - c.begin[static_cast<size_t>(slot)]);
  };
  kernels::PartDecayParams<double> expected;
  kernels::PartDecayParams<T> actual;
  fill(expected), fill(actual);
  if (c.has_decay) expected.g = g.host(), actual.g = g.device();
  expected.begin = c.begin.data(), expected.end = c.end.data(), expected.passes = c.passes.data();
  actual.begin = begin.data(), actual.end = end.data(), actual.passes = passes.data();
  expected.decay = decay.host(), actual.decay = decay.device();
  const DeviceArray<float> sums(static_cast<size_t>(kernels::cuda::part_decay_sums(actual)));
  actual.sums = sums.data();
  kernels::cpu::part_decay(expected);
  kernels::cuda::part_decay(actual);
  decay.check("decay", {1e-5, 1e-4});
}

}  // namespace

TEST_CASE("the decay over a part, on the GPU") {
  for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
    // A row of several pieces and one of a single token; one whose last document starts inside; an empty one.
    const DecayCase c{{0, 1000, 1100, 1300}, {1000, 1001, 1300, 1300}, {1, 1, 0, 1}, 1300, 200, layout};
    check_decay<float>(c);
    check_decay<bfloat16>(c);
  }
  check_decay<float>({{0}, {70000}, {1}, 70000, 5, Layout::kDense});
  check_decay<bfloat16>({{0, 10}, {10, 20}, {1, 0}, 20, 130, Layout::kDense, false});
}

TEST_CASE("the fold of parts, on the GPU") {
  for (const auto& [first, count, step] : {std::tuple{0, 0, 1}, {0, 3, 1}, {3, 2, -1}, {3, 4, -1}}) {
    const int64_t parts = 4, rows = 300, columns = 67, stride = rows * (columns + 1);
    Matrix<float> all(parts, stride, Layout::kDense, 3);
    Matrix<float> folded(rows, columns, Layout::kDense, 0, 0);
    const auto fill = [&, first = first, count = count, step = step](auto& p) {
      p.rows = rows, p.columns = columns, p.part_stride = stride;
      p.first = first, p.count = count, p.step = step;
    };
    kernels::StateFoldParams<double> expected;
    kernels::StateFoldParams<float> actual;
    fill(expected), fill(actual);
    expected.states = all.host(), expected.decays = all.host() + rows * columns;
    actual.states = all.device(), actual.decays = all.device() + rows * columns;
    expected.folded = folded.host(), actual.folded = folded.device();
    kernels::cpu::state_fold(expected);
    kernels::cuda::state_fold(actual);
    folded.check("fold from part " + std::to_string(first));
  }
}
