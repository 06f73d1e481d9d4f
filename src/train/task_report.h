// Task scores as text, as JSON, and item by item.
#pragma once

#include <string>
#include <vector>

#include "config/json.h"
#include "core/dtype.h"
#include "tensor/device.h"
#include "train/task_evaluation.h"

namespace sluice {

struct TaskReport {
  std::string checkpoint;
  std::string model_type;
  int64_t parameters = 0;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  std::string tokenizer;
  int64_t batch_tokens = 0;
  std::vector<TaskResult> results;
};

// A table of all measures, and for each needle task one of length by depth.
std::string to_text(const TaskReport& report);
// Everything but the outcomes of single items.
Json to_json(const TaskReport& report);
// A line of JSON for each outcome.
std::string details_jsonl(const TaskReport& report);

}  // namespace sluice
