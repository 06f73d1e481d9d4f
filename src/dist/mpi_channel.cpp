#include "dist/mpi_channel.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <thread>

#include "core/error.h"

#ifdef SLUICE_SANITIZED
namespace {
bool used_mpi = false;
}
// MPI's plugins are gone before leaks are looked for, and what they keep for the process's life looks lost.
extern "C" int __lsan_is_turned_off() { return used_mpi ? 1 : 0; }
#endif

namespace sluice {

void check_mpi(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, text, &length);
  SLUICE_FAIL(kInternal, "{} failed: {}", call, text);
}

void poll_until(const std::function<bool()>& done) {
  constexpr int kBusyPolls = 100;
  constexpr auto kLongestSleep = std::chrono::microseconds(500);
  auto sleep = std::chrono::microseconds(10);
  for (int polls = 0; !done(); ++polls) {
    if (polls < kBusyPolls) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(sleep);
    sleep = std::min(2 * sleep, kLongestSleep);
  }
}

MpiChannel::MpiChannel(int expected_world_size) {
#ifdef SLUICE_SANITIZED
  used_mpi = true;
#endif
  // Buckets are reduced by a thread of their own, and a watchdog may end the job from a third.
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  SLUICE_CHECK(provided == MPI_THREAD_MULTIPLE, kUsage,
               "this MPI serves one thread only (level {} of {}); one with MPI_THREAD_MULTIPLE is needed",
               provided, MPI_THREAD_MULTIPLE);
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");
  SLUICE_CHECK(
      world_size_ == expected_world_size, kUsage,
      "the launcher started {} processes, but MPI knows of {}: this program was built with another MPI "
      "than its launcher belongs to",
      expected_world_size, world_size_);
}

MpiChannel::~MpiChannel() { MPI_Finalize(); }

std::vector<std::byte> MpiChannel::all_gather(std::span<const std::byte> bytes) {
  SLUICE_ASSERT(bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max() / world_size_));
  const int size = static_cast<int>(bytes.size());
  std::vector<std::byte> all(bytes.size() * static_cast<size_t>(world_size_));
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(
      MPI_Iallgather(bytes.data(), size, MPI_BYTE, all.data(), size, MPI_BYTE, MPI_COMM_WORLD, &request),
      "MPI_Iallgather");
  poll_until([&] {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
  return all;
}

void MpiChannel::abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace sluice
