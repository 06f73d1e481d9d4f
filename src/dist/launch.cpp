#include "dist/launch.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "core/error.h"

namespace sluice {
namespace {

struct Launcher {
  const char* name;
  const char* rank;
  const char* world_size;
  enum class Mpi { kAlways, kNever, kWithPmix } mpi;
};

// Inside one Slurm job mpirun sets both its own variables and finds Slurm's; the launcher that started this
// very process comes first.
constexpr Launcher kLaunchers[] = {
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", Launcher::Mpi::kAlways},
    {"MPICH", "PMI_RANK", "PMI_SIZE", Launcher::Mpi::kAlways},
    {"torchrun", "RANK", "WORLD_SIZE", Launcher::Mpi::kNever},
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", Launcher::Mpi::kWithPmix},
};

std::optional<int> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  int value = 0;
  const char* end = text + std::char_traits<char>::length(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  SLUICE_CHECK(error == std::errc() && stop == end && value >= 0, kUsage,
               "the environment variable {} is \"{}\", expected a number", variable, text);
  return value;
}

}  // namespace

LaunchIdentity detect_launch() {
  for (const Launcher& launcher : kLaunchers) {
    const auto rank = number_in(launcher.rank), world_size = number_in(launcher.world_size);
    if (!rank || !world_size) continue;
    SLUICE_CHECK(*world_size >= 1 && *rank < *world_size, kUsage, "{} says rank {} of {} processes ({}, {})",
                 launcher.name, *rank, *world_size, launcher.rank, launcher.world_size);
    const bool for_mpi = launcher.mpi == Launcher::Mpi::kAlways ||
                         (launcher.mpi == Launcher::Mpi::kWithPmix && std::getenv("PMIX_RANK") != nullptr);
    return {launcher.name, *rank, *world_size, for_mpi};
  }
  return {};
}

}  // namespace sluice
