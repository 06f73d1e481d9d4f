// Programs under mpirun.
#pragma once

#include <string>
#include <vector>

#include "support/child_process.h"

namespace sluice::test {

// mpirun with the options that make it start any number of ranks on any machine of tests, and the program (a
// name in the build folder) with its arguments.
std::vector<std::string> under_mpi(int ranks, const std::string& program,
                                   const std::vector<std::string>& arguments);

// What mpirun needs in a container, where everybody is root and there is no ssh.
ChildProcess::Environment mpi_environment();

}  // namespace sluice::test
