#include "nn/module.h"

#include <cmath>

#include "core/error.h"
#include "nn/gated_mlp.h"
#include "nn/linear.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"

using namespace sluice;

namespace {

std::vector<std::string> checkpoint_names(const nn::Module& module) {
  std::vector<std::string> names;
  for (const nn::Parameter* parameter : module.parameters()) {
    for (const nn::CheckpointPart& part : parameter->parts()) names.push_back(part.name);
  }
  return names;
}

class Outer : public nn::Module {
 public:
  Outer() : inner(4, {{"q", 2}, {"k", 3}}, true), mlp(4, 6) {
    add_child("layers.0", inner);
    add_child("mlp", mlp);
  }
  nn::Linear inner;
  nn::GatedMlp mlp;
};

}  // namespace

TEST_CASE("merged projections keep separate names in checkpoints") {
  const Outer outer;
  CHECK(checkpoint_names(outer) == std::vector<std::string>{"layers.0.q.weight", "layers.0.k.weight",
                                                            "layers.0.q.bias", "layers.0.k.bias",
                                                            "mlp.gate_proj.weight", "mlp.up_proj.weight",
                                                            "mlp.down_proj.weight"});
  CHECK(outer.parameters()[0]->name() == "layers.0.q+k.weight");
  CHECK(outer.parameters()[0]->shape() == Shape{5, 4});
}

TEST_CASE("initial weights depend on seed and name, not on merging") {
  nn::Linear merged(4, {{"q", 2}, {"k", 3}}), alone(4, {{"k", 3}});
  nn::allocate(merged.parameters(), DType::kF32, Device::kCpu, false);
  nn::allocate(alone.parameters(), DType::kF32, Device::kCpu, false);
  for (const auto* module : {&merged, &alone}) nn::initialize(*module->parameters()[0], 7, 0.02);
  const Tensor rows = merged.parameters()[0]->variable().value().narrow(0, 2, 3);
  CHECK(rows.to_vector<float>() == alone.parameters()[0]->variable().value().to_vector<float>());
  nn::initialize(*alone.parameters()[0], 8, 0.02);
  CHECK(rows.to_vector<float>() != alone.parameters()[0]->variable().value().to_vector<float>());
}

TEST_CASE("initial weights have the deviation asked for, biases are zero") {
  nn::Linear linear(256, 256, true);
  nn::allocate(linear.parameters(), DType::kF64, Device::kCpu, false);
  for (const auto* parameter : linear.parameters()) nn::initialize(*parameter, 1, 0.02);
  double squares = 0;
  for (const double w : linear.parameters()[0]->variable().value().to_vector<double>()) squares += w * w;
  CHECK(std::abs(std::sqrt(squares / 65536) - 0.02) < 2e-4);
  for (const double b : linear.parameters()[1]->variable().value().to_vector<double>()) CHECK(b == 0);
}

TEST_CASE("a part of a parameter is its rows, in stored shape") {
  nn::Parameter parameter("conv", Shape{6, 4}, nn::ParameterRole::kConvolution, nn::Initializer::kNormal);
  parameter.set_parts({{"a", 0, 2, Shape{2, 1, 4}}, {"b", 2, 4, Shape{4, 1, 4}}});
  const Tensor whole = test::random_normal({6, 4}, DType::kF32, 1);
  CHECK(parameter.part_of(whole, parameter.parts()[1]).shape() == Shape{4, 1, 4});
  CHECK(parameter.part_of(whole, parameter.parts()[1]).to_vector<float>() ==
        whole.narrow(0, 2, 4).to_vector<float>());
  CHECK_THROWS_AS(parameter.set_parts({{"a", 0, 2, Shape{2, 4}}}), Error);
}
