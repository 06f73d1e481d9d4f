// An evaluation as tables for people, as JSON and as a picture. All of them name the convention: perplexities
// of different conventions must not be compared.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/json.h"
#include "tensor/allocator.h"
#include "train/evaluation.h"

namespace sluice {

struct EvaluationReport {
  // The model.
  std::string checkpoint;
  std::string model_type;
  int64_t parameters = 0;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  bool constant_state = false;
  // The data, as a whole; how much of them a length scores stands in its result.
  std::string data;
  int64_t data_tokens = 0;
  std::optional<int64_t> data_bytes;      // of text
  std::optional<int32_t> document_token;  // bos_token_id of the model
  int64_t documents = 0;                  // document tokens among the data
  std::string bigram_source;              // training data of the baseline; empty: none
  int64_t bigram_tokens = 0;
  EvaluationOptions options;
  std::vector<LengthResult> results;
};

// How the numbers were made, in one sentence.
std::string convention(const EvaluationReport& report);

// Header, a row a length, and perplexity by bucket and length.
std::string to_text(const EvaluationReport& report);
Json to_json(const EvaluationReport& report);
std::string to_svg(const EvaluationReport& report);

}  // namespace sluice
