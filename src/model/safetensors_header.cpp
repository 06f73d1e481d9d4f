#include "model/safetensors_header.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "config/json.h"

namespace sluice {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr const char* kMetadataKey = "__metadata__";

// Reads the members of a parsed header; every message starts with the file's path.
class HeaderReader {
 public:
  explicit HeaderReader(const InputFile& file) : file_(file), path_(file.path().string()) {}

  SafetensorsHeader read() {
    const Json json = parse_json(text(), path_ + ": safetensors header", ErrorKind::kCheckpoint);
    for (const auto& [name, value] : json.items()) {
      if (name == kMetadataKey) {
        read_metadata(value);
      } else {
        header_.tensors.push_back(read_tensor(name, value));
      }
    }
    check_layout();
    return std::move(header_);
  }

 private:
  std::string text() {
    const int64_t size = file_.size();
    SLUICE_CHECK(size >= kLengthBytes, kCheckpoint,
                 "{}: {} bytes are too few for a safetensors file, which starts with 8 bytes of length",
                 path_, size);
    uint64_t length = 0;
    file_.read_at(0, std::span(&length, 1));
    SLUICE_CHECK(length <= static_cast<uint64_t>(SafetensorsHeader::kMaximumBytes), kCheckpoint,
                 "{}: a header of {} bytes is announced, the limit is {}; this is no safetensors file", path_,
                 length, SafetensorsHeader::kMaximumBytes);
    header_.data_start = kLengthBytes + static_cast<int64_t>(length);
    SLUICE_CHECK(header_.data_start <= size, kCheckpoint,
                 "{}: the header ends at byte {}, but the file has {} bytes; it is cut short", path_,
                 header_.data_start, size);
    std::string text(length, '\0');
    file_.read_at(kLengthBytes, std::span(text.data(), text.size()));
    SLUICE_CHECK(text.starts_with('{'), kCheckpoint,
                 "{}: the safetensors header is {} bytes and does not start with an opening brace", path_,
                 length);
    return text;
  }

  void read_metadata(const Json& value) {
    SLUICE_CHECK(value.is_object(), kCheckpoint, "{}: {} is {}, an object of strings is needed", path_,
                 kMetadataKey, value.type_name());
    for (const auto& [key, entry] : value.items()) {
      SLUICE_CHECK(entry.is_string(), kCheckpoint, "{}: {}: {} is {}, a string is needed", path_,
                   kMetadataKey, printable(key), shown(entry));
      header_.metadata.emplace(key, entry.get_ref<const std::string&>());
    }
  }

  StoredTensor read_tensor(const std::string& name, const Json& value) {
    tensor_ = printable(name);
    SLUICE_CHECK(value.is_object(), kCheckpoint, "{}: tensor {}: {} where an object is needed", path_,
                 tensor_, shown(value));
    for (const auto& [key, unused] : value.items()) {
      SLUICE_CHECK(key == "dtype" || key == "shape" || key == "data_offsets", kCheckpoint,
                   "{}: tensor {}: unknown key {}; known: dtype, shape, data_offsets", path_, tensor_,
                   printable(key));
    }
    StoredTensor tensor;
    tensor.name = name;
    const Json& type = member(value, "dtype");
    SLUICE_CHECK(type.is_string(), kCheckpoint, "{}: tensor {}: dtype is {}, a string is needed", path_,
                 tensor_, shown(type));
    const auto parsed = parse_stored_type(type.get_ref<const std::string&>());
    SLUICE_CHECK(parsed.has_value(), kCheckpoint, "{}: tensor {}: unknown dtype {}", path_, tensor_,
                 shown(type));
    tensor.type = *parsed;
    tensor.shape = integers(value, "shape");
    SLUICE_CHECK(tensor.shape.size() <= SafetensorsHeader::kMaximumRank, kCheckpoint,
                 "{}: tensor {}: {} dimensions, the limit is {}", path_, tensor_, tensor.shape.size(),
                 SafetensorsHeader::kMaximumRank);
    const auto offsets = integers(value, "data_offsets");
    SLUICE_CHECK(offsets.size() == 2, kCheckpoint, "{}: tensor {}: {} data_offsets, begin and end are needed",
                 path_, tensor_, offsets.size());
    tensor.begin = offsets[0], tensor.end = offsets[1];
    check_size(tensor);
    return tensor;
  }

  void check_size(const StoredTensor& tensor) const {
    SLUICE_CHECK(tensor.end >= tensor.begin, kCheckpoint,
                 "{}: tensor {}: data_offsets [{}, {}] run backwards", path_, tensor_, tensor.begin,
                 tensor.end);
    const auto expected = bytes_of(tensor.shape, tensor.type);
    SLUICE_CHECK(expected.has_value(), kCheckpoint,
                 "{}: tensor {}: shape {} of {} is beyond 2^63 bits or no whole number of bytes", path_,
                 tensor_, format_shape(tensor.shape), name_of(tensor.type));
    SLUICE_CHECK(tensor.bytes() == *expected, kCheckpoint,
                 "{}: tensor {}: shape {} of {} is {} bytes, but data_offsets [{}, {}] hold {}", path_,
                 tensor_, format_shape(tensor.shape), name_of(tensor.type), *expected, tensor.begin,
                 tensor.end, tensor.bytes());
  }

  // The data must be covered exactly once: nothing overlaps, nothing is hidden between or behind tensors.
  void check_layout() {
    std::sort(header_.tensors.begin(), header_.tensors.end(), [](const auto& a, const auto& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    int64_t expected = 0;
    for (const StoredTensor& tensor : header_.tensors) {
      SLUICE_CHECK(
          tensor.begin == expected, kCheckpoint,
          "{}: tensor {}: data begins at {}, but the tensors before it end at {}; {} are not allowed", path_,
          printable(tensor.name), tensor.begin, expected, tensor.begin < expected ? "overlaps" : "holes");
      expected = tensor.end;
    }
    const int64_t data_bytes = file_.size() - header_.data_start;
    SLUICE_CHECK(expected == data_bytes, kCheckpoint,
                 "{}: the tensors need {} bytes of data, but {} follow the header; the file is {}", path_,
                 expected, data_bytes, data_bytes < expected ? "cut short" : "too long");
  }

  const Json& member(const Json& object, const char* key) const {
    const auto found = object.find(key);
    SLUICE_CHECK(found != object.end(), kCheckpoint, "{}: tensor {}: {} is missing", path_, tensor_, key);
    return *found;
  }

  std::vector<int64_t> integers(const Json& object, const char* key) const {
    const Json& values = member(object, key);
    SLUICE_CHECK(values.is_array(), kCheckpoint, "{}: tensor {}: {} is {}, an array is needed", path_,
                 tensor_, key, shown(values));
    std::vector<int64_t> result;
    result.reserve(values.size());
    for (const Json& value : values) {
      SLUICE_CHECK(value.is_number_unsigned() &&
                       value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
                   kCheckpoint, "{}: tensor {}: {} holds {}, integers from 0 to 2^63 - 1 are needed", path_,
                   tensor_, key, shown(value));
      result.push_back(value.get<int64_t>());
    }
    return result;
  }

  static std::string shown(const Json& value) {
    return value.is_structured() ? value.type_name() : printable(dump_json(value, -1));
  }

  const InputFile& file_;
  const std::string path_;
  std::string tensor_;  // being read, for messages
  SafetensorsHeader header_;
};

std::string quoted(const std::string& text) { return dump_json(Json(text), -1); }

}  // namespace

int64_t StoredTensor::numel() const { return numel_of(shape).value(); }

SafetensorsHeader read_safetensors_header(const InputFile& file) { return HeaderReader(file).read(); }

std::string format_safetensors_header(const std::vector<StoredTensor>& tensors, const Metadata& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata) {
      json += json.size() == 1 ? fmt::format("\"{}\":{{", kMetadataKey) : ",";
      json += quoted(key) + ":" + quoted(value);
    }
    json += "}";
  }
  for (const StoredTensor& tensor : tensors) {
    if (json.size() > 1) json += ",";
    json += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", quoted(tensor.name),
                        name_of(tensor.type), fmt::join(tensor.shape, ","), tensor.begin, tensor.end);
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  SLUICE_CHECK(length <= static_cast<uint64_t>(SafetensorsHeader::kMaximumBytes), kCheckpoint,
               "a safetensors header of {} bytes for {} tensors; the limit is {}: use more shards", length,
               tensors.size(), SafetensorsHeader::kMaximumBytes);
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + json;
}

std::optional<int64_t> numel_of(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(product, size, &product)) return std::nullopt;
  }
  return product;
}

std::optional<int64_t> bytes_of(const std::vector<int64_t>& shape, StoredType type) {
  const auto elements = numel_of(shape);
  int64_t bits = 0;
  if (!elements || __builtin_mul_overflow(*elements, bits_of(type), &bits) || bits % 8 != 0) {
    return std::nullopt;
  }
  return bits / 8;
}

std::string format_shape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace sluice
