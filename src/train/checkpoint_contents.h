// Everything one checkpoint holds.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>  // CheckpointContents holds Json by value
#include <string>
#include <vector>

#include "config/json.h"
#include "model/named_tensor.h"
#include "train/checkpoint_manifest.h"
#include "train/trainer_state.h"

namespace sluice {

// A file taken over as it is, e.g. {"data/books.model", "tokenizer.model"}.
struct CopiedFile {
  std::filesystem::path source;
  std::string name;  // in the checkpoint, without directories
};

// Pieces of a sentencepiece model as they are spelled there; empty where it has none.
struct SpecialPieces {
  std::string bos, eos, unk;
};

struct CheckpointContents {
  Json model_config;       // config.json
  Json generation_config;  // generation_config.json; left out where null
  // Tensors are stored in the dtype they have: fp32 master weights, or those of an f64 run.
  std::vector<NamedTensor> weights;
  std::vector<NamedTensor> first_moments;   // under the names of their weights
  std::vector<NamedTensor> second_moments;  // likewise
  // Where ranks share the moments: writes them into the checkpoint's directory instead, one file of each
  // rank, and says which.
  std::function<std::vector<ManifestFile>(const std::filesystem::path& directory)> write_moments;
  int64_t written_moments_bytes = 0;
  TrainerState state;
  Json run_config;  // trainer/run.json
  // With a tokenizer.model among them, tokenizer_config.json and special_tokens_map.json are written from the
  // pieces, unless they are among the files too.
  std::vector<CopiedFile> tokenizer_files;
  SpecialPieces special_pieces;
  bool poisoned = false;  // weights are not finite: kept to be looked at, never resumed from
};

}  // namespace sluice
