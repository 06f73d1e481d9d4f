#include <algorithm>

#include "config/json.h"
#include "model/element_copy.h"
#include "model/safetensors.h"

namespace sluice {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;

// Strides are products of sizes, also where another size is 0, so the sizes alone must stay in range.
Shape shape_for_memory(const StoredTensor& stored, const std::string& path) {
  SLUICE_CHECK(stored.shape.size() <= Shape::kMaxRank, kCheckpoint,
               "{}: tensor {} has {} dimensions; at most {} can be loaded", path, printable(stored.name),
               stored.shape.size(), Shape::kMaxRank);
  Shape shape;
  int64_t strides = sizeof(double);
  for (const int64_t size : stored.shape) {
    SLUICE_CHECK(!__builtin_mul_overflow(strides, std::max<int64_t>(size, 1), &strides), kCheckpoint,
                 "{}: tensor {} has shape {}, too large to load", path, printable(stored.name),
                 format_shape(stored.shape));
    shape.append(size);
  }
  return shape;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path, ErrorKind::kCheckpoint), header_(read_safetensors_header(file_)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const StoredTensor& SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  SLUICE_CHECK(found != index_.end(), kCheckpoint, "{}: holds no tensor {}", path().string(),
               printable(name));
  return header_.tensors[found->second];
}

Tensor SafetensorsFile::load(std::string_view name, DType wanted) const {
  const StoredTensor& stored = find(name);
  check_convertible(stored, wanted);
  const Tensor tensor = Tensor::empty(shape_for_memory(stored, path().string()), wanted, Device::kCpu);
  load_into(name, tensor);
  return tensor;
}

void SafetensorsFile::load_into(std::string_view name, const Tensor& destination) const {
  if (destination.defined() && destination.device() != Device::kCpu) {
    // Files are read into the CPU's memory.
    const Tensor host = Tensor::empty(destination.shape(), destination.dtype(), Device::kCpu);
    load_into(name, host);
    return destination.copy_from(host);
  }
  SLUICE_ASSERT(destination.defined() && destination.device() == Device::kCpu);
  const StoredTensor& stored = find(name);
  check_convertible(stored, destination.dtype());
  SLUICE_CHECK(shape_for_memory(stored, path().string()) == destination.shape(), kCheckpoint,
               "{}: tensor {} has shape {}, but the model needs {}", path().string(), printable(name),
               format_shape(stored.shape), destination.shape().to_string());
  if (stored.type == stored_type_of(destination.dtype()) && destination.is_contiguous()) {
    auto* const out = static_cast<std::byte*>(destination.raw_data());
    file_.read_at(header_.data_start + stored.begin, std::span(out, static_cast<size_t>(stored.bytes())));
    return;
  }
  const int64_t element = bits_of(stored.type) / 8;
  for_each_piece(stored, [&](const std::byte* piece, int64_t first, int64_t count) {
    int64_t done = 0;
    for_each_run(destination, first, count, [&](std::byte* out, int64_t run) {
      const int64_t converted =
          convert_elements(stored.type, piece + done * element, destination.dtype(), out, run);
      SLUICE_CHECK(converted == run, kCheckpoint,
                   "{}: tensor {}: element {} does not fit into 32 bits; it cannot be read as {}",
                   path().string(), printable(name), first + done + converted, name_of(destination.dtype()));
      done += run;
    });
  });
}

TensorStream SafetensorsFile::stream(std::string_view name, std::optional<StoredType> floating) const {
  const StoredTensor* stored = &find(name);
  const bool converts = floating && is_convertible_float(stored->type);
  if (!converts || stored->type == *floating) {
    // Pieces of bytes rather than of elements: packed types have none of their own.
    return {stored->name, stored->type, stored->shape, [this, stored](const ByteSink& sink) {
              std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, stored->bytes())));
              for (int64_t at = stored->begin; at < stored->end; at += kPieceBytes) {
                const auto piece =
                    std::span(buffer).first(static_cast<size_t>(std::min(kPieceBytes, stored->end - at)));
                file_.read_at(header_.data_start + at, piece);
                sink(piece);
              }
            }};
  }
  SLUICE_CHECK(is_convertible_float(*floating), kInternal, "floating tensors cannot become {}",
               name_of(*floating));
  return {stored->name, *floating, stored->shape, [this, stored, wanted = *floating](const ByteSink& sink) {
            std::vector<std::byte> converted;
            for_each_piece(*stored, [&](const std::byte* piece, int64_t, int64_t count) {
              converted.resize(static_cast<size_t>(count * bits_of(wanted) / 8));
              convert_floats(stored->type, piece, wanted, converted.data(), count);
              sink(converted);
            });
          }};
}

void SafetensorsFile::check_convertible(const StoredTensor& stored, DType wanted) const {
  const bool fits =
      is_floating(wanted) ? is_convertible_float(stored.type) : is_convertible_integer(stored.type);
  SLUICE_CHECK(fits, kCheckpoint, "{}: tensor {} holds {}, which cannot be read as {}", path().string(),
               printable(stored.name), name_of(stored.type), name_of(wanted));
}

void SafetensorsFile::for_each_piece(
    const StoredTensor& stored, const std::function<void(const std::byte*, int64_t, int64_t)>& body) const {
  const int64_t element = bits_of(stored.type) / 8;
  const int64_t elements = stored.bytes() / element;
  const int64_t piece = kPieceBytes / element;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(piece, elements) * element));
  for (int64_t first = 0; first < elements; first += piece) {
    const int64_t count = std::min(piece, elements - first);
    file_.read_at(header_.data_start + stored.begin + first * element,
                  std::span(buffer).first(static_cast<size_t>(count * element)));
    body(buffer.data(), first, count);
  }
}

}  // namespace sluice
