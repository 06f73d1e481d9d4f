#include "dist/connect.h"

#include "core/error.h"
#include "dist/tcp_channel.h"
#ifdef SLUICE_HAVE_MPI
#include "dist/mpi_channel.h"
#include "dist/mpi_communicator.h"
#endif
#ifdef SLUICE_HAVE_NCCL
#include "dist/nccl_communicator.h"
#endif

namespace sluice {
namespace {

std::unique_ptr<Communicator> connect_cpu(const LaunchIdentity& identity) {
  SLUICE_CHECK(
      identity.for_mpi, kUsage,
      "{} started {} processes without MPI, which ranks on CPUs need; use mpirun -np {}, or srun --mpi=pmix",
      identity.launcher, identity.world_size, identity.world_size);
#ifdef SLUICE_HAVE_MPI
  auto channel = std::make_unique<MpiChannel>(identity.world_size);
  World world = discover_world(*channel);
  return make_mpi_communicator(std::move(channel), std::move(world));
#else
  SLUICE_FAIL(
      kUsage,
      "{} started {} processes, but this program was built without MPI; build it where CMake finds MPI",
      identity.launcher, identity.world_size);
#endif
}

#ifdef SLUICE_HAVE_NCCL
std::unique_ptr<ControlChannel> meet(const LaunchIdentity& identity, double seconds) {
#ifdef SLUICE_HAVE_MPI
  if (identity.for_mpi) return std::make_unique<MpiChannel>(identity.world_size);
#endif
  return std::make_unique<TcpChannel>(meeting_from_environment(seconds), identity.rank, identity.world_size);
}
#endif

std::unique_ptr<Communicator> connect_gpus([[maybe_unused]] const LaunchIdentity& identity,
                                           [[maybe_unused]] double seconds) {
#ifdef SLUICE_HAVE_NCCL
  auto channel = meet(identity, seconds);
  World world = discover_world(*channel);
  return make_nccl_communicator(std::move(channel), std::move(world), seconds);
#else
  SLUICE_FAIL(
      kUsage,
      "{} started {} processes, but this program was built without NCCL, which several GPUs need; install it "
      "and build anew",
      identity.launcher, identity.world_size);
#endif
}

}  // namespace

std::unique_ptr<Communicator> connect(const LaunchIdentity& identity, Device device, double seconds) {
  if (identity.world_size == 1) return make_solo_communicator();
  return device == Device::kCpu ? connect_cpu(identity) : connect_gpus(identity, seconds);
}

std::string describe(const LaunchIdentity& identity, const Communicator& communicator) {
  const int hosts = communicator.world().host_count();
  return fmt::format("{} ranks on {} host{}, started by {}, sums over {}", communicator.world_size(), hosts,
                     hosts == 1 ? "" : "s", identity.launcher, communicator.transport());
}

}  // namespace sluice
