#include "dist/gradient_reducer.h"

#include "support/catch.h"

using namespace sluice;

namespace {

// Two ranks, the other one having the same gradients: sums are doubles of what is there. Remembers the order.
class Doubling final : public Communicator {
 public:
  Doubling() : Communicator(std::make_unique<SoloChannel>(), World{0, 2, 0, 2, {"a", "a"}}) {}
  std::string transport() const override { return "test"; }
  std::vector<int64_t> sizes;
  int scattered = 0;

 private:
  void do_start_reduce_scatter_sum(const Tensor&) override { ++scattered; }
  void do_start_all_gather(const Tensor&) override {}
  void do_start_exchange_among(int, int, const Tensor&, const Tensor&) override {}
  void do_start_all_reduce_sum(const Tensor& tensor) override {
    sizes.push_back(tensor.numel());
    tensor.add_from(tensor.clone());
  }
  void do_wait() override {}
  Mark do_mark() override { return 0; }
  void do_wait_for(Mark) override {}
  void do_broadcast(const Tensor&, int) override {}
};

// Parameters of 3, 2, 4 and 1 elements, with a gap as the arena's padding leaves it.
const std::vector<GradientReducer::Range> kRanges = {{11, 12}, {6, 10}, {4, 6}, {0, 3}};

Tensor ones() { return Tensor::from<float>({12}, std::vector<float>(12, 1.0f)); }

}  // namespace

TEST_CASE("buckets leave when their last gradient is there, in the order of memory") {
  Doubling communicator;
  const Tensor gradients = ones();
  // [0, 6) of parameters 3 and 2, [6, 12) of 1 and 0.
  GradientReducer reducer(communicator, gradients, kRanges, 6);
  CHECK(reducer.bucket_count() == 2);
  reducer.arm();
  reducer.mark_ready(0);
  reducer.mark_ready(1);
  CHECK(communicator.sizes.empty());  // complete, but not the first
  reducer.mark_ready(3);
  reducer.mark_ready(3);  // a hook that comes twice counts once
  CHECK(communicator.sizes.empty());
  reducer.mark_ready(2);
  CHECK(communicator.sizes == std::vector<int64_t>{6, 6});
  reducer.flush();
  for (const float value : gradients.to_vector<float>()) CHECK(value == 2.0f);
}

TEST_CASE("gradients that are still added to stay") {
  Doubling communicator;
  GradientReducer reducer(communicator, ones(), kRanges, 5);
  CHECK(reducer.bucket_count() == 3);
  for (size_t i = 0; i < 4; ++i) reducer.mark_ready(i);
  CHECK(communicator.sizes.empty());
  reducer.arm();
  for (size_t i = 0; i < 4; ++i) reducer.mark_ready(3 - i);
  CHECK(communicator.sizes == std::vector<int64_t>{5, 5, 2});
}

TEST_CASE("a parameter in several buckets completes them all") {
  Doubling communicator;
  GradientReducer reducer(communicator, ones(), {{0, 3}, {3, 12}}, 2, GradientReducer::Result::kOwnSlices);
  reducer.arm();
  reducer.mark_ready(0);
  CHECK(communicator.scattered == 1);
  reducer.mark_ready(1);
  CHECK(communicator.scattered == 6);
  CHECK(communicator.sizes.empty());
}

TEST_CASE("parameters without a gradient travel at the end") {
  Doubling communicator;
  const Tensor gradients = ones();
  GradientReducer reducer(communicator, gradients, kRanges, 3);
  for (int step = 1; step <= 2; ++step) {
    reducer.arm();
    reducer.mark_ready(3);
    CHECK(reducer.buckets_started() == 1);
    reducer.flush();
    CHECK(communicator.sizes.size() == static_cast<size_t>(4 * step));
  }
  CHECK(gradients.to_vector<float>()[11] == 4.0f);
}

TEST_CASE("one process sends nothing") {
  const Tensor gradients = ones();
  GradientReducer reducer(solo_communicator(), gradients, kRanges, 4);
  reducer.arm();
  for (size_t i = 0; i < 4; ++i) reducer.mark_ready(i);
  reducer.flush();
  CHECK(gradients.to_vector<float>() == std::vector<float>(12, 1.0f));
}
