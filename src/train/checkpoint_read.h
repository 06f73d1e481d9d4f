// Reads the parts of a checkpoint directory that has been verified.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/json.h"
#include "model/named_tensor.h"
#include "train/trainer_state.h"

namespace sluice {

// What stands before a weight's name in trainer/optimizer.safetensors.
inline const std::string kFirstMoment = "first_moment.";
inline const std::string kSecondMoment = "second_moment.";

// All of it as Error(kCheckpoint) where a file is missing or not of its form.
TrainerState read_trainer_state(const std::filesystem::path& checkpoint);
Json read_checkpoint_run_config(const std::filesystem::path& checkpoint);

// Fills the destinations, on the CPU and possibly strided, from the tensors of a safetensors file under
// `prefix` + their names. The file must hold under that prefix exactly these names, with these shapes.
void load_named(const std::filesystem::path& file, const std::string& prefix,
                const std::vector<NamedTensor>& destinations);

// Both moments of every weight; the file holds nothing else.
void load_moments(const std::filesystem::path& checkpoint, const std::vector<NamedTensor>& first,
                  const std::vector<NamedTensor>& second);

}  // namespace sluice
