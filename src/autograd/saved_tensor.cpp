#include "autograd/saved_tensor.h"

namespace sluice {
namespace {
thread_local bool recomputing = false;
}

SelectiveRecomputeScope::SelectiveRecomputeScope(bool on) : previous_(recomputing) { recomputing = on; }
SelectiveRecomputeScope::~SelectiveRecomputeScope() { recomputing = previous_; }
bool SelectiveRecomputeScope::active() { return recomputing && grad_enabled(); }

SavedTensor::SavedTensor(const Variable& variable) : recipe_(variable.recipe()) {
  if (recipe_ == nullptr) tensor_ = variable.value();
}

}  // namespace sluice
