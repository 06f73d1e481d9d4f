#include "data/loader.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "data/sampler.h"
#include "data/token_files.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

LoaderOptions options_for(const test::TemporaryDirectory& directory, int64_t length) {
  LoaderOptions options;
  options.sources = {{directory.path().string()}};
  options.sequence_length = length;
  options.vocabulary_size = 65536;
  return options;
}

std::vector<int64_t> ids(Loader& loader, int64_t batches) {
  std::vector<int64_t> result;
  for (int64_t i = 0; i < batches; ++i) {
    const Batch batch = loader.next();
    result.insert(result.end(), batch.sample_ids.begin(), batch.sample_ids.end());
  }
  return result;
}

}  // namespace

TEST_CASE("consecutive integers come out as consecutive integers") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", test::consecutive(23, 0));
  test::write_shard16(directory / "b.bin", test::consecutive(18, 23));
  auto options = options_for(directory, 5);
  options.rows = 3;
  options.shuffle = GENERATE(false, true);
  Loader loader(options);
  REQUIRE(loader.tokens() == 41);
  REQUIRE(loader.sequences_per_epoch() == 8);
  for (int64_t step = 0; step < 20; ++step) {
    const Batch batch = loader.next();
    REQUIRE(batch.rows == 3);
    REQUIRE(batch.length == 5);
    REQUIRE(batch.cursor_after == 3 * (step + 1));
    REQUIRE(loader.cursor() == 3 * (step + 1));
    REQUIRE(batch.epoch == 3 * step / 8);
    for (int64_t row = 0; row < 3; ++row) {
      const int64_t sequence = batch.sample_ids[static_cast<size_t>(row)];
      if (!options.shuffle) REQUIRE(sequence == (3 * step + row) % 8);
      for (int64_t t = 0; t < 5; ++t) {
        REQUIRE(batch.tokens[static_cast<size_t>(5 * row + t)] == 5 * sequence + t);
        REQUIRE(batch.labels[static_cast<size_t>(5 * row + t)] == 5 * sequence + t + 1);
        REQUIRE(batch.document_starts[static_cast<size_t>(5 * row + t)] == 0);
      }
    }
  }
}

TEST_CASE("an epoch visits every sequence once, ranks are disjoint, and the order ignores the world size") {
  for (const int64_t tokens : {25, 97, 240}) {
    const test::TemporaryDirectory directory;
    test::write_shard16(directory / "a.bin", test::consecutive(tokens));
    const int64_t sequences = (tokens - 1) / 2;
    for (const uint64_t seed : {0, 1}) {
      auto options = options_for(directory, 2);
      options.seed = seed;
      options.rows = 1;
      Loader alone(options);
      // Two epochs and a bit.
      const std::vector<int64_t> order = ids(alone, 2 * sequences + 8);
      for (int64_t epoch = 0; epoch < 2; ++epoch) {
        std::vector<int64_t> one(order.begin() + epoch * sequences, order.begin() + (epoch + 1) * sequences);
        REQUIRE_FALSE(std::is_sorted(one.begin(), one.end()));
        std::sort(one.begin(), one.end());
        std::vector<int64_t> all(static_cast<size_t>(sequences));
        std::iota(all.begin(), all.end(), 0);
        REQUIRE(one == all);
      }
      REQUIRE_FALSE(std::equal(order.begin(), order.begin() + sequences, order.begin() + sequences));
      for (int64_t world = 1; world <= 8; ++world) {
        for (const int64_t rows : {1, 3}) {
          const int64_t steps = static_cast<int64_t>(order.size()) / (world * rows);
          std::vector<std::vector<int64_t>> of_rank;
          for (int64_t rank = 0; rank < world; ++rank) {
            options.rank = rank;
            options.world_size = world;
            options.rows = rows;
            Loader loader(options);
            of_rank.push_back(ids(loader, steps));
          }
          std::vector<int64_t> joined;
          for (int64_t step = 0; step < steps; ++step) {
            for (const auto& mine : of_rank) {
              joined.insert(joined.end(), mine.begin() + step * rows, mine.begin() + (step + 1) * rows);
            }
          }
          REQUIRE(std::equal(joined.begin(), joined.end(), order.begin()));
        }
      }
      options.rank = 0;
      options.world_size = 1;
    }
  }
}

TEST_CASE("seeking to any cursor is the same as skipping") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", test::consecutive(100));
  auto options = options_for(directory, 4);
  options.rows = 2;
  options.prefetch = GENERATE(1, 5);
  Loader straight(options);
  std::vector<Batch> batches;
  for (int i = 0; i < 30; ++i) batches.push_back(straight.next());
  Loader resumed(options);
  for (const int64_t at : {17, 0, 29, 3, 3, 12}) {
    resumed.seek(2 * at);
    REQUIRE(resumed.cursor() == 2 * at);
    const Batch batch = resumed.next();
    REQUIRE(batch.tokens == batches[static_cast<size_t>(at)].tokens);
    REQUIRE(batch.sample_ids == batches[static_cast<size_t>(at)].sample_ids);
    REQUIRE(batch.cursor_after == batches[static_cast<size_t>(at)].cursor_after);
  }
  // A cursor far out costs nothing, and one that another batch size left works as well.
  resumed.seek((int64_t{1} << 50) + 1);
  CHECK(resumed.next().epoch == ((int64_t{1} << 50) + 1) / resumed.sequences_per_epoch());
  CHECK_THAT(test::error_of([&] { resumed.seek(-1); }), test::contains("2 cannot go on from sample -1"));
}

TEST_CASE("documents are flagged, and labels stop at them when the state is reset") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", {1, 10, 11, 1, 12, 13, 1, 14, 1});
  auto options = options_for(directory, 4);
  options.shuffle = false;
  options.rows = 2;
  options.document_token = 1;
  const Batch carried = Loader(options).next();
  CHECK(carried.tokens == std::vector<int32_t>{1, 10, 11, 1, 12, 13, 1, 14});
  CHECK(carried.labels == std::vector<int32_t>{10, 11, 1, 12, 13, 1, 14, 1});
  CHECK(carried.document_starts == std::vector<int32_t>{1, 0, 0, 1, 0, 0, 1, 0});
  options.reset_at_documents = true;
  const Batch reset = Loader(options).next();
  CHECK(reset.tokens == carried.tokens);
  CHECK(reset.labels == std::vector<int32_t>{10, 11, -100, 12, 13, -100, 14, -100});
  CHECK(reset.document_starts == carried.document_starts);
}

TEST_CASE("Megatron datasets bring their own documents") {
  const test::TemporaryDirectory directory;
  test::write_bytes(directory / "p.idx", test::megatron_index(8, {3, 2, 1}, {0, 1, 2, 3}));
  test::write_tokens16(directory / "p.bin", {5, 6, 7, 8, 9, 10});
  auto options = options_for(directory, 5);
  options.reset_at_documents = true;
  const Batch batch = Loader(options).next();
  CHECK(batch.document_starts == std::vector<int32_t>{1, 0, 0, 1, 0});
  CHECK(batch.labels == std::vector<int32_t>{6, 7, -100, 9, -100});
}

TEST_CASE("a mix keeps its weights, and each source its own epochs") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", test::consecutive(21));       // 10 sequences of 2
  test::write_shard16(directory / "b.bin", test::consecutive(9, 1000));  // 4 sequences
  auto options = options_for(directory, 2);
  options.sources = {{(directory / "a.bin").string(), 3}, {(directory / "b.bin").string(), 1}};
  options.rows = 4;
  Loader loader(options);
  REQUIRE(loader.sequences_per_epoch() == 14);
  std::vector<int64_t> of_a, of_b;
  for (int step = 0; step < 40; ++step) {
    const Batch batch = loader.next();
    const int64_t from_b =
        std::count_if(batch.sample_ids.begin(), batch.sample_ids.end(), [](int64_t id) { return id >= 10; });
    REQUIRE(from_b == 1);
    for (size_t row = 0; row < 4; ++row) {
      const int64_t id = batch.sample_ids[row];
      REQUIRE(batch.tokens[2 * row] == (id < 10 ? 2 * id : 1000 + 2 * (id - 10)));
      (id < 10 ? of_a : of_b).push_back(id);
    }
  }
  for (size_t begin = 0; begin + 10 <= of_a.size(); begin += 10) {
    REQUIRE(std::set<int64_t>(of_a.begin() + begin, of_a.begin() + begin + 10).size() == 10);
  }
  for (size_t begin = 0; begin + 4 <= of_b.size(); begin += 4) {
    REQUIRE(std::set<int64_t>(of_b.begin() + begin, of_b.begin() + begin + 4).size() == 4);
  }
  CHECK_THAT(loader.describe(), test::contains("75% of the samples"));
  CHECK_THAT(loader.describe(),
             test::contains("b.bin: 1 file(s), llm.c v1 (uint16), 9 tokens, 4 sequences of 2"));
}

TEST_CASE("two sources of one size are shuffled differently") {
  const std::vector<double> weights = {1, 1};
  const std::vector<std::string> names = {"a", "b"};
  const Sampler sampler({1000, 1000}, weights, names, true, 0);
  int64_t same = 0;
  for (int64_t i = 0; i < 2000; i += 2) same += sampler.sample(i).sequence == sampler.sample(i + 1).sequence;
  CHECK(same < 10);
}

TEST_CASE("the fingerprint follows what decides the order and nothing else") {
  const test::TemporaryDirectory directory, copy;
  for (const auto* where : {&directory, &copy}) test::write_shard16(*where / "a.bin", test::consecutive(50));
  const auto base = options_for(directory, 4);
  const uint64_t expected = Loader(base).fingerprint();
  const auto with = [&](auto&& change) {
    auto options = base;
    change(options);
    return Loader(options).fingerprint();
  };
  CHECK(Loader(options_for(copy, 4)).fingerprint() == expected);
  CHECK(with([](LoaderOptions& o) { o.rows = 3; }) == expected);
  CHECK(with([](LoaderOptions& o) { o.rank = 1, o.world_size = 2; }) == expected);
  CHECK(with([](LoaderOptions& o) { o.prefetch = 1; }) == expected);
  CHECK(with([](LoaderOptions& o) { o.seed = 1; }) != expected);
  CHECK(with([](LoaderOptions& o) { o.shuffle = false; }) != expected);
  CHECK(with([](LoaderOptions& o) { o.sequence_length = 5; }) != expected);
  CHECK(with([](LoaderOptions& o) { o.document_token = 0; }) != expected);
  test::write_shard16(copy / "a.bin", test::consecutive(51));
  CHECK(Loader(options_for(copy, 4)).fingerprint() != expected);
}

TEST_CASE("labels below an id, and in front of a position, are not learned") {
  const test::TemporaryDirectory directory;
  test::write_shard16(directory / "a.bin", {1, 7, 2, 8, 3, 9, 4, 6, 5});
  LoaderOptions options;
  options.sources = {{(directory / "a.bin").string()}};
  options.sequence_length = 4;
  options.vocabulary_size = 10;
  options.shuffle = false;
  const uint64_t plain = Loader(options).fingerprint();
  options.labels_from_token = 7;
  options.labels_from_position = 1;
  Loader loader(options);
  constexpr int32_t kNone = kIgnoredLabel;
  CHECK(loader.next().labels == std::vector<int32_t>{kNone, kNone, 8, kNone});
  const Batch second = loader.next();
  CHECK(second.tokens == std::vector<int32_t>{3, 9, 4, 6});
  CHECK(second.labels == std::vector<int32_t>{kNone, kNone, kNone, kNone});
  CHECK(loader.fingerprint() != plain);
  options.labels_from_position = 4;
  CHECK_THAT(test::error_of([&] { Loader{options}; }), test::contains("would leave none"));
}
