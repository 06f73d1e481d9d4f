// Under mpirun: every collective over sizes around the pieces and slices it is cut into, against what all
// ranks know the result to be. Prints a hash of a sum whose bits depend on the order of its terms. Exits with
// 1 and a line that says what is wrong; with the argument "abort" rank 1 ends the job with 41.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "core/sha256.h"
#include "dist/connect.h"

using namespace sluice;

namespace {

// Numbers whose float sum depends on the order.
template <class T>
std::vector<T> numbers_of(int rank, int64_t count) {
  const Philox random(7, static_cast<uint64_t>(rank));
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto bits = static_cast<int64_t>(random.bits64(i) % 2000001) - 1000000;
    values[i] = static_cast<T>(bits) / static_cast<T>(1 + i % 977);
  }
  return values;
}

template <class T>
std::string check_sum(Communicator& communicator, int64_t count) {
  const Tensor tensor = Tensor::from<T>({count}, numbers_of<T>(communicator.rank(), count));
  communicator.all_reduce_sum(tensor);
  std::vector<T> expected = numbers_of<T>(0, count);
  for (int rank = 1; rank < communicator.world_size(); ++rank) {
    const auto term = numbers_of<T>(rank, count);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += term[i];
  }
  const std::vector<T> sum = tensor.to_vector<T>();
  SLUICE_CHECK(std::memcmp(sum.data(), expected.data(), sum.size() * sizeof(T)) == 0, kInternal,
               "the sum of {} elements is not that in the order of ranks", count);
  return sha256_hex(std::as_bytes(std::span(sum)));
}

// Reduce-scatter and all-gather are the two halves of a sum.
template <class T>
std::string check_slices(Communicator& communicator, int64_t part) {
  const int64_t count = part * communicator.world_size();
  const Tensor halves = Tensor::from<T>({count}, numbers_of<T>(communicator.rank(), count));
  const Tensor whole = halves.clone();
  communicator.start_all_reduce_sum(whole);
  communicator.start_reduce_scatter_sum(halves);
  communicator.wait();
  const Tensor mine = halves.narrow(0, part * communicator.rank(), part);
  SLUICE_CHECK(mine.to_vector<T>() == whole.narrow(0, part * communicator.rank(), part).to_vector<T>(),
               kInternal, "the slice of {} elements is not that of the sum", part);
  communicator.start_all_gather(halves);
  const Communicator::Mark mark = communicator.mark();
  communicator.start_all_reduce_sum(whole.clone());
  communicator.wait_for(mark);
  SLUICE_CHECK(halves.to_vector<T>() == whole.to_vector<T>(), kInternal,
               "the gathered slices of {} elements are not the sum", part);
  communicator.wait();
  const std::vector<T> sum = halves.to_vector<T>();
  return sha256_hex(std::as_bytes(std::span(sum)));
}

std::string check_all(Communicator& communicator) {
  const int n = communicator.world_size();
  std::string hashes;
  for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{1000}, (int64_t{2} << 20) + 5}) {
    hashes += check_sum<float>(communicator, count) + check_sum<double>(communicator, count);
  }
  // Several at once, and what follows them.
  std::vector<Tensor> several;
  for (int i = 0; i < 5; ++i)
    several.push_back(Tensor::from<float>({1000 + i}, std::vector<float>(1000 + i, 1.0f)));
  for (const Tensor& tensor : several) communicator.start_all_reduce_sum(tensor);
  communicator.wait();
  for (const Tensor& tensor : several) {
    for (const float value : tensor.to_vector<float>()) SLUICE_ASSERT(value == static_cast<float>(n));
  }
  for (const int64_t part : {int64_t{1}, int64_t{1000}, (int64_t{1} << 20) + 3}) {
    hashes += check_slices<float>(communicator, part) + check_slices<double>(communicator, part);
  }
  // Groups of neighbours beside each other, the last one perhaps smaller.
  for (const int64_t count : {int64_t{1}, int64_t{1000}, (int64_t{2} << 20) + 3}) {
    const int first = communicator.rank() / 2 * 2, ranks = std::min(2, n - first);
    const Tensor mine = Tensor::from<float>({count}, numbers_of<float>(communicator.rank(), count));
    const Tensor all = Tensor::empty({ranks, count}, DType::kF32, Device::kCpu);
    communicator.start_gather_among(first, ranks, mine, all);
    communicator.wait();
    for (int i = 0; i < ranks; ++i)
      SLUICE_ASSERT(all.narrow(0, i, 1).to_vector<float>() == numbers_of<float>(first + i, count));
    // Row i of what is sent is of its sender and of i.
    const Tensor rows = Tensor::empty({ranks, count}, DType::kF32, Device::kCpu);
    const auto numbers = [&](int from, int to) { return numbers_of<float>(10 * from + to, count); };
    for (int i = 0; i < ranks; ++i) {
      rows.narrow(0, i, 1).copy_from(
          Tensor::from<float>({1, count}, numbers(communicator.rank(), first + i)));
    }
    communicator.start_exchange_among(first, ranks, rows, all);
    communicator.wait();
    for (int i = 0; i < ranks; ++i)
      SLUICE_ASSERT(all.narrow(0, i, 1).to_vector<float>() == numbers(first + i, communicator.rank()));
  }
  for (int root = 0; root < n; ++root) {
    const Tensor tensor = Tensor::from<float>({1001}, numbers_of<float>(communicator.rank(), 1001));
    communicator.broadcast(tensor, root);
    SLUICE_ASSERT(tensor.to_vector<float>() == numbers_of<float>(root, 1001));
  }
  const auto ranks = communicator.all_gather(communicator.rank());
  for (int rank = 0; rank < n; ++rank) SLUICE_ASSERT(ranks[static_cast<size_t>(rank)] == rank);
  communicator.barrier();
  SLUICE_ASSERT(communicator.world().local_size == n &&
                communicator.world().local_rank == communicator.rank());
  return sha256_hex(std::as_bytes(std::span(hashes)));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const LaunchIdentity identity = detect_launch();
    const auto communicator = connect(identity, Device::kCpu, 10);
    if (argc > 1 && std::strcmp(argv[1], "abort") == 0) {
      if (communicator->rank() == 1) communicator->abort(41);
      communicator->barrier();
    }
    const std::string hash = check_all(*communicator);
    if (communicator->is_root())
      std::printf("%s\n%s\n", describe(identity, *communicator).c_str(), hash.c_str());
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  }
}
