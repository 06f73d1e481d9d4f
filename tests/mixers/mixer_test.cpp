// What every mixer promises, checked for each family and variant.
#include "nn/mixer.h"

#include <nlohmann/json.hpp>

#include "autograd/backward.h"
#include "config/object_reader.h"
#include "mixers/registry.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

constexpr int64_t kHidden = 16;

struct Variant {
  const char* name;
  const char* model_type;
  const char* keys;
};

constexpr Variant kVariants[] = {
    {"gla", "gla", R"({"num_heads": 2})"},
    {"gla, grouped, convolution", "gla",
     R"({"num_heads": 4, "num_kv_heads": 2, "use_short_conv": true, "expand_k": 1})"},
    {"gla, no gate, feature map, clamp", "gla",
     R"({"num_heads": 2, "use_output_gate": false, "feature_map": "swish", "clamp_min": -0.02})"},
    {"softmax", "transformer", R"({"num_heads": 2})"},
    {"softmax, grouped, bias, head norms", "transformer",
     R"({"num_heads": 4, "num_kv_heads": 1, "qkv_bias": true, "qk_norm": true})"},
    {"softmax, window", "transformer", R"({"num_heads": 2, "window_size": 3})"},
};

std::unique_ptr<nn::Mixer> make_mixer(const Variant& variant, DType dtype) {
  const Json json = parse_json(variant.keys, "test", ErrorKind::kUsage);
  Problems problems;
  ObjectReader reader(json, "model", problems);
  const auto plan = find_mixer_family(variant.model_type)->read(reader, {kHidden, 1, 1e-6, true}, problems);
  reader.finish();
  problems.throw_if_any("test", ErrorKind::kUsage);
  auto mixer = plan->make(0);
  nn::allocate(mixer->parameters(), dtype, Device::kCpu, false);
  for (const nn::Parameter* parameter : mixer->parameters()) nn::initialize(*parameter, 3, 0.3);
  return mixer;
}

}  // namespace

TEST_CASE("mixers: a sequence in pieces over a state equals the whole") {
  const NoGradScope no_grad;
  for (const Variant& variant : kVariants) {
    INFO(variant.name);
    const auto mixer = make_mixer(variant, DType::kF64);
    const int64_t length = 11;
    const Tensor x = random_normal({2 * length, kHidden}, DType::kF64, 1);
    const Tensor whole =
        mixer->forward(Variable(x), ops::SequenceLayout::uniform(2, length), nullptr).product().value();
    auto state = mixer->make_state(2, DType::kF64, Device::kCpu);
    const Tensor pieces = test::poisoned({2 * length, kHidden}, DType::kF64);
    int64_t done = 0;
    for (const int64_t piece : {5, 1, 1, 4}) {
      const Tensor part =
          x.view({2, length, kHidden}).narrow(1, done, piece).clone().view({2 * piece, kHidden});
      const nn::Branch y =
          piece == 1 ? mixer->step(Variable(part), *state)
                     : mixer->forward(Variable(part), ops::SequenceLayout::uniform(2, piece), state.get());
      pieces.view({2, length, kHidden})
          .narrow(1, done, piece)
          .copy_from(y.product().value().view({2, piece, kHidden}));
      done += piece;
    }
    CHECK_CLOSE(pieces, whole, 1e-13, 1e-11);
  }
}

TEST_CASE("mixers: packed sequences equal separate ones, empty ones included") {
  for (const Variant& variant : kVariants) {
    INFO(variant.name);
    const auto mixer = make_mixer(variant, DType::kF64);
    const Tensor x = random_normal({9, kHidden}, DType::kF64, 2);
    ops::SequenceLayout layout;
    layout.offsets = {0, 0, 4, 5, 5, 9};
    layout.state_in = layout.state_out = {-1, -1, -1, -1, -1};
    const Tensor packed = mixer->forward(Variable(x), layout, nullptr).product().value();
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 4}, {4, 1}, {5, 4}}) {
      const Tensor alone = mixer
                               ->forward(Variable(x.narrow(0, first, count).clone()),
                                         ops::SequenceLayout::uniform(1, count), nullptr)
                               .product()
                               .value();
      CHECK_CLOSE(packed.narrow(0, first, count), alone, 1e-14, 1e-12);
    }
  }
}

TEST_CASE("mixers: the gradient of the input by central differences") {
  for (const Variant& variant : kVariants) {
    INFO(variant.name);
    const std::shared_ptr<nn::Mixer> mixer = make_mixer(variant, DType::kF64);
    test::check_gradients(
        [mixer](const std::vector<Variable>& in) {
          const auto layout = ops::SequenceLayout::uniform(1, 6);
          return std::vector<Variable>{mixer->forward(in[0], layout, nullptr).product()};
        },
        {random_normal({6, kHidden}, DType::kF64, 4)});
  }
}

TEST_CASE("mixers: a copy of a state goes its own way") {
  const NoGradScope no_grad;
  for (const Variant& variant : kVariants) {
    INFO(variant.name);
    const auto mixer = make_mixer(variant, DType::kF64);
    auto state = mixer->make_state(1, DType::kF64, Device::kCpu);
    mixer->forward(Variable(random_normal({5, kHidden}, DType::kF64, 1)), ops::SequenceLayout::uniform(1, 5),
                   state.get());
    const auto copy = state->clone();
    const Variable next(random_normal({1, kHidden}, DType::kF64, 2)),
        other(random_normal({1, kHidden}, DType::kF64, 3));
    mixer->step(other, *copy);
    const auto again = state->clone();
    CHECK(mixer->step(next, *state).product().value().to_vector<double>() ==
          mixer->step(next, *again).product().value().to_vector<double>());
  }
}

TEST_CASE("mixers: which states are constant") {
  const bool constant[] = {true, true, true, false, false, true};
  for (size_t i = 0; i < std::size(kVariants); ++i) {
    INFO(kVariants[i].name);
    const auto mixer = make_mixer(kVariants[i], DType::kF32);
    CHECK(mixer->has_constant_state() == constant[i]);
    CHECK(mixer->flops_per_token(128) > 0);
    if (constant[i] && mixer->trains_with_state()) {
      CHECK(mixer->make_state(1, DType::kF32, Device::kCpu)->bytes() == mixer->state_bytes(1, DType::kF32));
    }
  }
}

TEST_CASE("softmax attention refuses to be trained over a state") {
  const auto mixer = make_mixer(kVariants[3], DType::kF64);
  auto state = mixer->make_state(1, DType::kF64, Device::kCpu);
  CHECK_THROWS_WITH(mixer->forward(Variable(random_normal({2, kHidden}, DType::kF64, 1), true),
                                   ops::SequenceLayout::uniform(1, 2), state.get()),
                    test::contains("carried state"));
}
