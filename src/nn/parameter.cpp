#include "nn/parameter.h"

#include "core/error.h"
#include "core/random.h"
#include "tensor/launch.h"

namespace sluice::nn {
namespace {

// FNV-1a: a stream number from a name.
uint64_t stream_of(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

Tensor initial_values(const Parameter& parameter, const CheckpointPart& part, uint64_t seed, double range) {
  const Tensor values = Tensor::empty(part.shape, DType::kF64, Device::kCpu);
  double* data = values.data<double>();
  const int64_t count = values.numel();
  const Philox random(seed, stream_of(part.name));
#pragma omp parallel for
  for (int64_t i = 0; i < count; ++i) {
    switch (parameter.initializer()) {
      case Initializer::kNormal:
        data[i] = random.normal(static_cast<uint64_t>(i)) * range;
        break;
      case Initializer::kZeros:
        data[i] = 0.0;
        break;
      case Initializer::kOnes:
        data[i] = 1.0;
        break;
    }
  }
  return values;
}

}  // namespace

Parameter::Parameter(std::string name, const Shape& shape, ParameterRole role, Initializer initializer)
    : name_(std::move(name)), shape_(shape), role_(role), initializer_(initializer) {
  parts_ = {{name_, 0, shape_[0], shape_}};
}

void Parameter::set_parts(std::vector<CheckpointPart> parts) {
  int64_t row = 0;
  for (const CheckpointPart& part : parts) {
    SLUICE_ASSERT(part.first_row == row && part.shape.numel() * shape_[0] == part.rows * shape_.numel());
    row += part.rows;
  }
  SLUICE_ASSERT(row == shape_[0]);
  parts_ = std::move(parts);
}

void Parameter::prefix_names(const std::string& prefix) {
  name_ = prefix + name_;
  for (CheckpointPart& part : parts_) part.name = prefix + part.name;
}

void Parameter::bind(const Tensor& value, const Tensor& gradient, const Tensor& master) {
  SLUICE_ASSERT(value.shape() == shape_ && (!master.defined() || master.shape() == shape_));
  master_ = master.defined() ? master : value;
  variable_ = gradient.defined() ? Variable::parameter(value, gradient) : Variable(value);
}

Tensor Parameter::part_of(const Tensor& whole, const CheckpointPart& part) const {
  SLUICE_ASSERT(whole.shape() == shape_);
  return whole.narrow(0, part.first_row, part.rows).view(part.shape);
}

void initialize(const Parameter& parameter, uint64_t seed, double initializer_range) {
  for (const CheckpointPart& part : parameter.parts()) {
    parameter.part_of(parameter.master(), part)
        .copy_from(initial_values(parameter, part, seed, initializer_range));
  }
}

void allocate(const std::vector<Parameter*>& parameters, DType dtype, Device device, bool trained) {
  const DType exact = accumulate_dtype(dtype);
  for (Parameter* parameter : parameters) {
    Tensor value, gradient;
    {
      const MemoryClassScope memory(MemoryClass::kWeights);
      value = Tensor::zeros(parameter->shape(), parameter->is_exact() ? exact : dtype, device);
    }
    if (trained) {
      const MemoryClassScope memory(MemoryClass::kGradients);
      gradient = Tensor::zeros(parameter->shape(), exact, device);
    }
    parameter->bind(value, gradient);
  }
}

}  // namespace sluice::nn
