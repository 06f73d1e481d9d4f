// The safetensors format: https://huggingface.co/docs/safetensors, "Format". Files are checked whole before
// anything is loaded, read with pread in bounded pieces, and written so that equal tensors give equal bytes.
//
//   const SafetensorsFile file("model.safetensors");
//   const Tensor weight = file.load("lm_head.weight", DType::kF32);
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "model/named_tensor.h"
#include "model/safetensors_header.h"
#include "tensor/tensor.h"

namespace sluice {

using ByteSink = std::function<void(std::span<const std::byte>)>;

// A tensor that can be written without being in memory whole: `stream` hands its bytes, in order, to the
// sink.
struct TensorStream {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;
  std::function<void(const ByteSink&)> stream;
};

class SafetensorsFile {
 public:
  // Reads and checks the header; Error(kCheckpoint) says what is wrong.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  int64_t bytes() const { return file_.size(); }
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }  // in the order of their data
  const Metadata& metadata() const { return header_.metadata; }
  bool has(std::string_view name) const { return index_.contains(name); }
  const StoredTensor& find(std::string_view name) const;  // Error(kCheckpoint) where there is none

  // A new CPU tensor. F64, F32, BF16 and F16 become any floating dtype, bit for bit where the type is the
  // same; I32 and I64 become i32, and an I64 that does not fit is an error. Error(kCheckpoint) otherwise.
  Tensor load(std::string_view name, DType wanted) const;
  // The same into memory that is there; `destination` may be strided and must have the stored shape.
  void load_into(std::string_view name, const Tensor& destination) const;

  // For writing to another file: convertible floats become `floating` (one of them) where it is given, and
  // all else is copied as it is. The file must outlive the result.
  TensorStream stream(std::string_view name, std::optional<StoredType> floating) const;

 private:
  void check_convertible(const StoredTensor& stored, DType wanted) const;
  // Calls body(bytes, first element, elements) for successive pieces of a tensor.
  void for_each_piece(const StoredTensor& stored,
                      const std::function<void(const std::byte*, int64_t, int64_t)>& body) const;

  InputFile file_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_;  // into header_.tensors
};

struct SafetensorsOptions {
  std::optional<DType> floating;           // converts floating tensors to this type
  Metadata metadata = {{"format", "pt"}};  // transformers refuses files without "format"
  bool sync = false;                       // fsync before closing
};

struct WrittenFile {
  std::string name;  // without directories
  int64_t bytes = 0;
  std::string sha256;
};

// Writes tensors in the format's order, by alignment and then by name, whatever the order given. Names must
// differ and the tensors lie on the CPU, strided or not. A file that cannot be finished is removed.
// Error(kCheckpoint).
WrittenFile write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                              const SafetensorsOptions& options = {});
// `options.floating` must be unset: streams have their type.
WrittenFile write_safetensors(const std::filesystem::path& path, std::vector<TensorStream> tensors,
                              const SafetensorsOptions& options = {});

// The tensor as a stream that shares its memory.
TensorStream stream_of(const NamedTensor& named, std::optional<DType> floating);

}  // namespace sluice
