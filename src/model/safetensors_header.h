// The JSON header of a safetensors file: u64 length, that many bytes of JSON, then the data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "model/stored_type.h"

namespace sluice {

using Metadata = std::map<std::string, std::string>;

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;  // empty for a scalar
  int64_t begin = 0, end = 0;  // bytes, from the start of the data

  int64_t bytes() const { return end - begin; }
  int64_t numel() const;
};

struct SafetensorsHeader {
  static constexpr int64_t kMaximumBytes = 100'000'000;  // of JSON, as in the reference implementation
  static constexpr size_t kMaximumRank = 64;

  std::vector<StoredTensor> tensors;  // in the order of their data
  Metadata metadata;
  int64_t data_start = 0;  // byte of the file where offset 0 lies
};

// Reads the header and checks every rule of the format, down to the file's exact size. Memory is bounded by
// the size of the header, whatever sizes it claims. Error(kCheckpoint) names the file, the tensor and the
// numbers.
SafetensorsHeader read_safetensors_header(const InputFile& file);

// Length, JSON and the spaces that align the data to 8 bytes. The tensors' offsets must be set.
std::string format_safetensors_header(const std::vector<StoredTensor>& tensors, const Metadata& metadata);

// Elements of a shape, nothing where they are more than 2^63 - 1; bytes likewise, and nothing where packed
// elements do not fill whole bytes.
std::optional<int64_t> numel_of(const std::vector<int64_t>& shape);
std::optional<int64_t> bytes_of(const std::vector<int64_t>& shape, StoredType type);
std::string format_shape(const std::vector<int64_t>& shape);  // "[2, 3]"

}  // namespace sluice
