#include "mpi_launch.h"

namespace sluice::test {

std::vector<std::string> under_mpi(int ranks, const std::string& program,
                                   const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {SLUICE_MPIRUN,
                                      "--oversubscribe",
                                      "--bind-to",
                                      "none",
                                      "-np",
                                      std::to_string(ranks),
                                      std::string(SLUICE_BINARY_DIR) + "/" + program};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

ChildProcess::Environment mpi_environment() {
  return {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
          {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
          {"OMPI_MCA_plm_rsh_agent", "sh"},
          {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
          // Ranks that end with a code other than 0 need not be waited for.
          {"OMPI_MCA_odls_base_sigkill_timeout", "0"},
          {"OMP_NUM_THREADS", "1"}};
}

}  // namespace sluice::test
