#include "train/loaded_model.h"

#include "core/error.h"
#include "model/model_weights.h"
#include "model/weight_directory.h"
#include "tensor/device.h"
#include "train/checkpoint_store.h"

namespace sluice {
namespace {

constexpr const char* kTokenizerFile = "tokenizer.model";

}  // namespace

LoadedModel load_model(const std::filesystem::path& path, DType dtype, Device device) {
  LoadedModel loaded;
  loaded.directory = CheckpointStore::resolve(path);
  loaded.model = std::make_unique<LanguageModel>(read_model_config_file(loaded.directory / "config.json"));
  nn::allocate(loaded.model->parameters(), dtype, device, false);
  load_weights(*loaded.model, WeightDirectory(loaded.directory));
  const auto tokenizer = loaded.directory / kTokenizerFile;
  if (std::filesystem::exists(tokenizer)) loaded.tokenizer = tokenizer;
  return loaded;
}

Device parse_device(const std::string& name) {
  if (name == "auto") return is_available(Device::kCuda) ? Device::kCuda : Device::kCpu;
  SLUICE_CHECK(name == "cpu" || name == "cuda", kUsage,
               "device \"{}\" is not known; known are: auto, cpu, cuda", name);
  const Device device = name == "cpu" ? Device::kCpu : Device::kCuda;
  allocator_of(device);
  return device;
}

DType parse_compute_dtype(const std::string& name, Device device) {
  if (name == "auto") return device == Device::kCuda ? DType::kBF16 : DType::kF32;
  const DType dtype = parse_dtype(name);
  SLUICE_CHECK(is_floating(dtype), kUsage, "dtype \"{}\" is no type to compute in", name);
  SLUICE_CHECK(device == Device::kCpu || dtype != DType::kF64, kUsage,
               "dtype \"{}\" needs the CPU; a GPU computes in bfloat16 or float32", name);
  SLUICE_CHECK(device != Device::kCpu || dtype == DType::kF32 || dtype == DType::kF64, kUsage,
               "dtype \"{}\" needs a GPU; the CPU computes in float32 or float64", name);
  return dtype;
}

}  // namespace sluice
