#include "tools/mqar/task.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace sluice::mqar {
namespace {

// The first `count` of a random order of first, first + 1, ..., first + size - 1.
class Draw {
 public:
  Draw(const Philox& random, uint64_t& next) : random_(random), next_(next) {}

  std::vector<int32_t> distinct(int64_t first, int64_t size, int64_t count) {
    std::vector<int32_t> all(static_cast<size_t>(size));
    std::iota(all.begin(), all.end(), static_cast<int32_t>(first));
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
      std::swap(all[i], all[i + random_.bits64(next_++) % (all.size() - i)]);
    all.resize(static_cast<size_t>(count));
    return all;
  }

  // `count` of the places 0 to places - 1 without replacement, place i with weight (i + 1)^(power - 1): those
  // with the smallest of exponential times of these rates. In the order in which they were drawn.
  std::vector<int64_t> places(int64_t places, int64_t count, double power) {
    std::vector<std::pair<double, int64_t>> times;
    for (int64_t i = 0; i < places; ++i) {
      const double rate = std::pow(static_cast<double>(i + 1), power - 1);
      times.emplace_back(-std::log1p(-random_.uniform(next_++)) / rate, i);
    }
    std::partial_sort(times.begin(), times.begin() + count, times.end());
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < count; ++i) chosen.push_back(times[static_cast<size_t>(i)].second);
    return chosen;
  }

 private:
  const Philox& random_;
  uint64_t& next_;
};

}  // namespace

void check(const Task& task) {
  SLUICE_CHECK(task.vocabulary >= 4 && task.vocabulary <= 65536 && task.vocabulary % 2 == 0, kUsage,
               "a vocabulary of {} tokens: an even number from 4 to 65536 is needed", task.vocabulary);
  SLUICE_CHECK(task.pairs >= 1 && task.pairs < task.vocabulary / 2, kUsage,
               "{} pairs need as many keys, and a vocabulary of {} has {}", task.pairs, task.vocabulary,
               task.vocabulary / 2 - 1);
  SLUICE_CHECK(task.length % 2 == 0 && task.length / 4 >= task.pairs && task.length <= int64_t{1} << 24,
               kUsage, "{} tokens do not hold {} pairs and as many queries with their answers; {} do",
               task.length, task.pairs, 4 * task.pairs);
  SLUICE_CHECK(task.fewest_pairs >= 0 && task.fewest_pairs <= task.pairs, kUsage,
               "fewest pairs {} must be from 1 to the {} pairs, or 0", task.fewest_pairs, task.pairs);
  SLUICE_CHECK(task.power > 0 && task.power <= 1, kUsage, "power {} must be above 0 and at most 1",
               task.power);
}

std::vector<int32_t> make_example(const Task& task, uint64_t seed, uint64_t index) {
  const Philox random(seed, index);
  uint64_t next = 0;
  Draw draw(random, next);
  const int64_t half = task.vocabulary / 2, end = 2 * task.pairs;
  int64_t pairs = task.pairs;
  if (task.fewest_pairs > 0) {
    uint64_t sizes = 1;
    while (task.pairs >> sizes >= task.fewest_pairs) ++sizes;
    pairs >>= random.bits64(next++) % sizes;
  }
  const auto keys = draw.distinct(1, half - 1, pairs);
  const auto values = draw.distinct(half, half, pairs);
  const auto places = draw.places((task.length - end) / 2, pairs, task.power);
  std::vector<int32_t> example(static_cast<size_t>(task.length), 0);
  for (size_t i = 0; i < keys.size(); ++i) {
    const size_t pair = static_cast<size_t>(end - 2 * pairs) + 2 * i;
    const size_t query = static_cast<size_t>(end + 2 * places[i]);
    example[pair] = example[query] = keys[i];
    example[pair + 1] = example[query + 1] = values[i];
  }
  return example;
}

std::vector<int64_t> queries(const Task& task, const std::vector<int32_t>& example) {
  std::vector<int64_t> positions;
  for (int64_t i = 2 * task.pairs; i + 1 < task.length; ++i) {
    if (example[static_cast<size_t>(i + 1)] >= task.vocabulary / 2) positions.push_back(i);
  }
  return positions;
}

}  // namespace sluice::mqar
