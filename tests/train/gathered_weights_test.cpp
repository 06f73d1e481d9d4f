// With parallel.zero the weights of the next step arrive while its forward pass runs.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/profile_range.h"
#include "data/shard_writer.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"
#include "train/trainer.h"

using namespace sluice;

namespace {

// What happened, in order: operations that ended, and "wait" for what was started.
using Events = std::vector<std::string>;

class Listener final : public ProfileListener {
 public:
  explicit Listener(Events& events) : events_(events) { listen_to_ranges(this); }
  ~Listener() override { listen_to_ranges(nullptr); }
  void range_ended(const char* name, int64_t, int64_t) override { events_.emplace_back(name); }

 private:
  Events& events_;
};

// The first of two ranks, whose tensors go nowhere.
class Watched final : public Communicator {
 public:
  explicit Watched(Events& events)
      : Communicator(std::make_unique<SoloChannel>(), World{0, 2, 0, 2, {"a", "a"}}), events_(events) {}
  std::string transport() const override { return "test"; }
  std::vector<Mark> waited;

 private:
  void do_start_all_reduce_sum(const Tensor&) override { ++started_; }
  void do_start_reduce_scatter_sum(const Tensor&) override { ++started_; }
  void do_start_all_gather(const Tensor&) override { ++started_; }
  void do_start_exchange_among(int, int, const Tensor&, const Tensor&) override { ++started_; }
  void do_wait() override { events_.emplace_back("wait for all"); }
  Mark do_mark() override { return started_; }
  void do_wait_for(Mark mark) override {
    waited.push_back(mark);
    events_.emplace_back("wait");
  }
  void do_broadcast(const Tensor&, int) override {}

  Events& events_;
  Mark started_ = 0;
};

RunConfig small_run(const test::TemporaryDirectory& directory, const ModelConfig& model) {
  ShardWriter writer(directory / "data", "train", model.vocab_size, 2000);
  writer.append(test::random_tokens(2000, model.vocab_size, 11));
  writer.finish();
  RunConfig run;
  run.model = to_hugging_face_json(model, "float32");
  run.data.train = {{(directory / "data").string(), 1.0}};
  run.train.device = "cpu";
  run.train.steps = 20;
  run.train.sequence_length = 16;
  run.parallel.zero = 1;
  return run;
}

// One of two ranks, watched.
struct WatchedTraining {
  test::TemporaryDirectory directory;
  ModelConfig model = test::tiny_config(test::kTinyGla);
  RunConfig run = small_run(directory, model);
  Events events;
  Watched communicator{events};
  Trainer trainer{run, model, communicator};
};

int64_t count(const Events& events, Events::const_iterator end, const std::string& name) {
  return std::count(events.begin(), end, name);
}

}  // namespace

TEST_CASE("forward waits for a bucket of weights when it gets there, and not before") {
  WatchedTraining training;
  auto& [directory, model, run, events, communicator, trainer] = training;
  REQUIRE(trainer.arena().buckets() == 4);
  for (int step = 0; step < 3; ++step) {
    INFO("step " << step);
    events.clear();
    communicator.waited.clear();
    {
      const Listener listener(events);
      trainer.step();
    }
    const auto embedding = std::find(events.begin(), events.end(), "embedding_forward");
    const auto forward = std::find(events.begin(), events.end(), "forward");
    REQUIRE(embedding < forward);
    // In front of the first operation for its own bucket, then for each of the others, with work in between.
    CHECK(count(events, embedding, "wait") == 1);
    CHECK(count(events, forward, "wait") == count(events, events.end(), "wait"));
    REQUIRE(communicator.waited.size() >= 3);
    CHECK(std::is_sorted(communicator.waited.begin(), communicator.waited.end()));
    auto last = forward;
    while (*--last != "wait") {
    }
    CHECK(count(events, last, "gemm") > 3);
    CHECK(count(events, forward, "wait for all") == 0);
  }
}

TEST_CASE("whoever takes all weights waits for all") {
  WatchedTraining training;
  auto& [directory, model, run, events, communicator, trainer] = training;
  const std::vector<std::function<void()>> users = {
      [&] { trainer.model(); }, [&] { trainer.gather_weights(); }, [&] { trainer.weights_are_finite(); },
      [&] { trainer.share(); }, [&] { trainer.require_equal_weights(); }};
  for (size_t user = 0; user < users.size(); ++user) {
    INFO("user " << user);
    trainer.step();
    events.clear();
    // The other rank's hash is not that of this one.
    try {
      users[user]();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kNumerics);
    }
    CHECK(count(events, events.end(), "wait for all") > 0);
  }
}
