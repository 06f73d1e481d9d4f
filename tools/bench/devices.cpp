// bench devices: what this build can compute on.
#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>

#include "commands.h"
#include "core/progress.h"
#include "kernels/common/cuda_device.h"
#include "kernels/gemm/blas_setup.h"

namespace sluice::bench {

Command add_devices_command(CLI::App& app) {
  app.add_subcommand("devices", "list the processors and GPUs this build can use");
  return [] {
    fmt::print("cpu     {} threads, {}\n", omp_get_max_threads(), kernels::cpu::blas_description());
    if (!kernels::built_with_cuda()) fmt::print("cuda    not in this build: no nvcc was found\n");
    const auto devices = kernels::cuda_devices();
    if (kernels::built_with_cuda() && devices.empty()) fmt::print("cuda    no GPU found\n");
    for (const auto& device : devices) {
      fmt::print("cuda:{}  {}, compute capability {}.{}, {} multiprocessors, {}{}\n", device.index,
                 device.name, device.major, device.minor, device.multiprocessors,
                 format_bytes(static_cast<double>(device.memory_bytes)),
                 device.runs_our_code ? "" : "; this build has no code for it");
    }
    return 0;
  };
}

}  // namespace sluice::bench
