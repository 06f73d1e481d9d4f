#include "ops/activation.h"

#include <array>
#include <string>
#include <utility>

#include "autograd/tape.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

constexpr std::array<std::pair<std::string_view, Activation>, 20> kNames = {{
    {"elu", Activation::kElu},
    {"gelu", Activation::kGelu},
    {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_python", Activation::kGelu},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"identity", Activation::kIdentity},
    {"linear", Activation::kIdentity},
    {"logsigmoid", Activation::kLogSigmoid},
    {"mish", Activation::kMish},
    {"relu", Activation::kRelu},
    {"relu2", Activation::kSquaredRelu},
    {"relu6", Activation::kRelu6},
    {"sigmoid", Activation::kSigmoid},
    {"silu", Activation::kSilu},
    {"softplus", Activation::kSoftplus},
    {"sqrelu", Activation::kSquaredRelu},
    {"swish", Activation::kSilu},
    {"tanh", Activation::kTanh},
}};

void backward(const Tensor& x, Activation function, const Tensor& dy, const GradientTarget& dx) {
  dispatch_floating(x.dtype(), "activation", [&]<class T>() {
    kernels::ActivationBackward<T> p;
    p.rows = x.rows(), p.columns = x.rank() == 0 ? 1 : x.size(-1);
    p.activation = function;
    p.x = x.data<T>(), p.x_stride = x.row_stride();
    p.dy = dy.data<T>(), p.dy_stride = dy.row_stride();
    p.dx = dx.tensor.data<T>(), p.dx_stride = dx.tensor.row_stride();
    p.accumulate = dx.accumulate;
    SLUICE_LAUNCH(T, x.device(), activation_backward, p);
  });
}

}  // namespace

Activation parse_activation(std::string_view name) {
  std::string known;
  for (const auto& [candidate, function] : kNames) {
    if (candidate == name) return function;
    known.append(known.empty() ? "" : ", ").append(candidate);
  }
  SLUICE_FAIL(kUsage, "unknown activation \"{}\"; known are {}", name, known);
}

Variable activation(const Variable& x, Activation function) {
  const Tensor& input = x.value();
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch_floating(x.dtype(), "activation", [&]<class T>() {
    kernels::ActivationForward<T> p;
    p.rows = input.rows(), p.columns = input.rank() == 0 ? 1 : input.size(-1);
    p.activation = function;
    p.x = input.data<T>(), p.x_stride = input.row_stride();
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    SLUICE_LAUNCH(T, x.device(), activation_forward, p);
  });
  return Tape::record_one("activation", {x}, y, [x = input, function](BackwardContext& context) {
    backward(x, function, context.output_gradient(0), context.target(0));
  });
}

}  // namespace sluice::ops
