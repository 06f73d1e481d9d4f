// Names of kernels as people know them.
#pragma once

#include <string>

namespace sluice::profile {

// "gla_forward<256, 512>" of "void sluice::kernels::(anonymous namespace)::gla_forward<256, 512>(Params)":
// without result, namespaces and arguments. Names of another form stay as they are.
std::string short_kernel_name(const std::string& demangled);

// Whether a kernel of this name is one of NCCL's.
bool is_collective(const std::string& short_name);

}  // namespace sluice::profile
