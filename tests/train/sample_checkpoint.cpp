#include "sample_checkpoint.h"

#include <cstring>

#include "train/checkpoint_read.h"

namespace sluice::test {
namespace {

// Cheap on purpose: a process that saves one after another is to spend its time saving.
Tensor values(const Shape& shape, int64_t step, int64_t salt, uint64_t stream) {
  const auto seed = (static_cast<uint64_t>(step * 1000 + salt) << 8) + stream;
  Tensor tensor = Tensor::empty(shape, DType::kF32, Device::kCpu);
  float* out = tensor.data<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const uint64_t bits = (seed + (static_cast<uint64_t>(i) << 32)) * 0x9E3779B97F4A7C15;
    out[i] = static_cast<float>(bits >> 40) - 8388608.0F;  // 24 bits, of both signs
  }
  return tensor;
}

std::vector<NamedTensor> tensors(int64_t step, int64_t elements, int64_t salt, uint64_t stream) {
  return {{"model.embeddings.weight", values({elements / 3, 3}, step, salt, stream)},
          {"model.norm.weight", values({3}, step, salt, stream + 100)}};
}

std::string difference(const std::vector<NamedTensor>& expected, const std::filesystem::path& file,
                       const std::string& prefix) {
  std::vector<NamedTensor> loaded;
  for (const auto& [name, tensor] : expected) {
    loaded.push_back({name, Tensor::zeros(tensor.shape(), tensor.dtype(), Device::kCpu)});
  }
  load_named(file, prefix, loaded);
  for (size_t i = 0; i < expected.size(); ++i) {
    const Tensor& a = expected[i].tensor;
    const Tensor& b = loaded[i].tensor;
    if (std::memcmp(a.raw_data(), b.raw_data(), static_cast<size_t>(a.bytes())) != 0) {
      return file.string() + ": other values in " + prefix + expected[i].name;
    }
  }
  return "";
}

}  // namespace

CheckpointContents sample_checkpoint(int64_t step, int64_t elements, int64_t salt) {
  CheckpointContents contents;
  contents.model_config = {{"model_type", "gla"}, {"hidden_size", 3}};
  contents.generation_config = {{"_from_model_config", true}, {"bos_token_id", 1}};
  contents.weights = tensors(step, elements, salt, 1);
  contents.first_moments = tensors(step, elements, salt, 2);
  contents.second_moments = tensors(step, elements, salt, 3);
  contents.run_config = {{"name", "sample"}, {"train", {{"steps", 100}}}};
  contents.state.step = step;
  contents.state.tokens = step * 4096;
  contents.state.cursor = step * 8 + salt;
  contents.state.updates = step - 1;
  contents.state.skipped = 1;
  contents.state.log_bytes = step * 100;
  contents.state.timing_bytes = step * 90;
  contents.state.seconds = 0.1 * static_cast<double>(step);
  contents.state.data_fingerprint = 0xFEDCBA9876543210;
  return contents;
}

std::string difference_from_sample(const std::filesystem::path& directory, int64_t step, int64_t elements,
                                   int64_t salt) {
  const CheckpointContents sample = sample_checkpoint(step, elements, salt);
  const std::filesystem::path moments = directory / "trainer" / "optimizer.safetensors";
  std::string text = difference(sample.weights, directory / "model.safetensors", "");
  if (text.empty()) text = difference(sample.first_moments, moments, kFirstMoment);
  if (text.empty()) text = difference(sample.second_moments, moments, kSecondMoment);
  if (text.empty() && read_trainer_state(directory).cursor != sample.state.cursor) text = "another cursor";
  return text;
}

}  // namespace sluice::test
