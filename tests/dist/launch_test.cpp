#include "dist/launch.h"

#include <cstdlib>

#include "core/error.h"
#include "support/catch.h"

using namespace sluice;

namespace {

// Sets variables and takes them away again; those of a launcher around the tests are hidden meanwhile.
class Variables {
 public:
  explicit Variables(std::initializer_list<std::pair<const char*, const char*>> values) {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "RANK", "SLURM_PROCID", "PMIX_RANK"})
      ::unsetenv(name);
    for (const auto& [name, value] : values) {
      ::setenv(name, value, 1);
      names_.push_back(name);
    }
  }
  ~Variables() {
    for (const char* name : names_) ::unsetenv(name);
  }

 private:
  std::vector<const char*> names_;
};

}  // namespace

TEST_CASE("without a launcher there is one process") {
  const Variables none({});
  CHECK(detect_launch().world_size == 1);
  CHECK(detect_launch().launcher == "none");
}

TEST_CASE("launchers are known by their variables") {
  {
    const Variables set({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}});
    const auto identity = detect_launch();
    CHECK(identity.launcher == "Open MPI");
    CHECK(identity.rank == 3);
    CHECK(identity.world_size == 8);
    CHECK(identity.for_mpi);
  }
  const Variables set({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  CHECK(detect_launch().launcher == "torchrun");
  CHECK_FALSE(detect_launch().for_mpi);
}

TEST_CASE("Slurm's processes speak MPI where srun prepared it") {
  {
    const Variables plain({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}});
    CHECK(detect_launch().launcher == "Slurm");
    CHECK_FALSE(detect_launch().for_mpi);
  }
  const Variables prepared({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "1"}});
  CHECK(detect_launch().for_mpi);
}

TEST_CASE("nonsense in the environment is named") {
  {
    const Variables set({{"RANK", "zero"}, {"WORLD_SIZE", "2"}});
    CHECK_THROWS_WITH(detect_launch(), test::contains("RANK is \"zero\""));
  }
  const Variables set({{"RANK", "2"}, {"WORLD_SIZE", "2"}});
  CHECK_THROWS_WITH(detect_launch(), test::contains("rank 2 of 2"));
}
