#include "autograd/variable.h"

#include "core/error.h"

namespace sluice {
namespace {
thread_local bool recording = true;
}

Variable::Variable(Tensor value, bool requires_grad) : value_(std::move(value)) {
  if (requires_grad) {
    leaf_ = std::make_shared<GradientLeaf>();
    leaf_->shape = value_.shape();
    leaf_->dtype = value_.dtype();
    leaf_->device = value_.device();
  }
}

Variable Variable::parameter(Tensor value, Tensor gradient) {
  SLUICE_CHECK(gradient.shape() == value.shape(), kInternal,
               "a parameter of shape {} was given a gradient of shape {}", value.shape().to_string(),
               gradient.shape().to_string());
  Variable variable(std::move(value), true);
  variable.leaf_->dtype = gradient.dtype();
  variable.leaf_->gradient = std::move(gradient);
  return variable;
}

Tensor Variable::gradient() const {
  SLUICE_CHECK(leaf_ != nullptr, kInternal, "only a leaf that requires a gradient has one");
  return leaf_->gradient;
}

void Variable::clear_gradient() {
  SLUICE_ASSERT(leaf_ != nullptr);
  leaf_->gradient = Tensor();
}

void Variable::restart_gradient() const {
  SLUICE_ASSERT(leaf_ != nullptr);
  leaf_->restarted = leaf_->gradient.defined();
}

void Variable::settle_gradient() const {
  SLUICE_ASSERT(leaf_ != nullptr);
  if (leaf_->restarted) leaf_->gradient.fill_zero();
  leaf_->restarted = false;
}

void Variable::set_gradient_hook(std::function<void()> hook) {
  SLUICE_ASSERT(leaf_ != nullptr);
  leaf_->on_gradient_ready = std::move(hook);
}

NoGradScope::NoGradScope() : previous_(recording) { recording = false; }
NoGradScope::~NoGradScope() { recording = previous_; }
GradScope::GradScope() : previous_(recording) { recording = true; }
GradScope::~GradScope() { recording = previous_; }
bool grad_enabled() { return recording; }

}  // namespace sluice
