// The collectives themselves run in mpi_probe.
#include <string>

#include "mpi_launch.h"
#include "support/catch.h"

using namespace sluice;

namespace {

struct Outcome {
  int exit_code = 0;
  std::string output;
};

Outcome probe(int ranks, const std::vector<std::string>& arguments = {},
              test::ChildProcess::Environment more = {}) {
  auto environment = test::mpi_environment();
  environment.insert(environment.end(), more.begin(), more.end());
  test::ChildProcess child(test::under_mpi(ranks, "tests/mpi_probe", arguments), environment);
  Outcome outcome;
  outcome.output = child.read_all();
  outcome.exit_code = child.wait();
  return outcome;
}

}  // namespace

TEST_CASE("sums over MPI are those in the order of ranks, whatever MPI does") {
  for (const int ranks : {2, 3, 4}) {
    const Outcome first = probe(ranks);
    INFO(first.output);
    CHECK(first.exit_code == 0);
    CHECK_THAT(first.output, test::contains(std::to_string(ranks) +
                                            " ranks on 1 host, started by Open MPI, sums over MPI"));
    if (ranks == 3) CHECK(probe(3).output == first.output);
  }
}

TEST_CASE("one rank ends the job with its exit code") { CHECK(probe(3, {"abort"}).exit_code == 41); }

TEST_CASE("a launcher of another MPI is noticed") {
  // As a foreign mpirun's variables look: two processes announced, of which this MPI knows nothing.
  test::ChildProcess child({std::string(SLUICE_BINARY_DIR) + "/tests/mpi_probe"},
                           {{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
  CHECK_THAT(child.read_all(), test::contains("the launcher started 2 processes, but MPI knows of 1"));
  CHECK(child.wait() == 2);
}

TEST_CASE("torchrun's processes on CPUs are told what to use instead") {
  test::ChildProcess child({std::string(SLUICE_BINARY_DIR) + "/tests/mpi_probe"},
                           {{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  CHECK_THAT(child.read_all(), test::contains("mpirun -np 2"));
  CHECK(child.wait() == 2);
}
