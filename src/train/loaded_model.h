// A model ready to run, from whatever path a user gives.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "model/language_model.h"

namespace sluice {

struct LoadedModel {
  std::filesystem::path directory;  // where the weights came from
  std::unique_ptr<LanguageModel> model;
  std::optional<std::filesystem::path> tokenizer;  // sentencepiece model beside the weights
};

// `path`: a checkpoint, the directory of a run (its newest valid checkpoint) or any Hugging Face model
// directory of a known family. Error(kCheckpoint) when there is no such thing, or it is damaged.
LoadedModel load_model(const std::filesystem::path& path, DType dtype, Device device);

// "auto" (a GPU where this build can use one), "cpu", "cuda". Error(kUsage) for what this build lacks.
Device parse_device(const std::string& name);
// The compute type `name` on `device`. Error(kUsage) for one the device does not compute in.
DType parse_compute_dtype(const std::string& name, Device device);

}  // namespace sluice
