#include <algorithm>

#include "config/json.h"
#include "core/sha256.h"
#include "model/element_copy.h"
#include "model/safetensors.h"

namespace sluice {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;

// Sorts the streams as the format wants them and lays their data out without holes.
std::vector<StoredTensor> lay_out(std::vector<TensorStream>& streams, const std::string& path) {
  std::sort(streams.begin(), streams.end(), [](const TensorStream& a, const TensorStream& b) {
    return a.type != b.type ? a.type > b.type : a.name < b.name;
  });
  std::vector<StoredTensor> tensors;
  std::map<std::string_view, int> seen;
  int64_t offset = 0;
  for (const TensorStream& stream : streams) {
    SLUICE_CHECK(stream.name != "__metadata__", kInternal, "{}: __metadata__ is no name for a tensor", path);
    SLUICE_CHECK(++seen[stream.name] == 1, kInternal, "{}: two tensors are named {}", path,
                 printable(stream.name));
    const auto bytes = bytes_of(stream.shape, stream.type);
    int64_t end = 0;
    SLUICE_CHECK(bytes && !__builtin_add_overflow(offset, *bytes, &end), kInternal,
                 "{}: tensor {} of shape {} ends beyond 2^63 bytes", path, printable(stream.name),
                 format_shape(stream.shape));
    tensors.push_back({stream.name, stream.type, stream.shape, offset, end});
    offset = end;
  }
  return tensors;
}

// Only what this program made: a device such as /dev/full stays.
void remove_unfinished(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) std::filesystem::remove(path, ignored);
}

}  // namespace

WrittenFile write_safetensors(const std::filesystem::path& path, std::vector<TensorStream> streams,
                              const SafetensorsOptions& options) {
  SLUICE_ASSERT(!options.floating);
  const auto tensors = lay_out(streams, path.string());
  const std::string header = format_safetensors_header(tensors, options.metadata);
  OutputFile file(path, ErrorKind::kCheckpoint);
  Sha256 hash;
  const auto write = [&](std::span<const std::byte> bytes) {
    hash.update(bytes);
    file.write(bytes);
  };
  try {
    write(std::as_bytes(std::span(header)));
    for (size_t i = 0; i < streams.size(); ++i) {
      streams[i].stream(write);
      const int64_t end = static_cast<int64_t>(header.size()) + tensors[i].end;
      SLUICE_CHECK(file.size() == end, kInternal, "{}: tensor {} was written up to byte {} instead of {}",
                   path.string(), printable(tensors[i].name), file.size(), end);
    }
    if (options.sync) file.sync();
    file.close();
  } catch (...) {
    remove_unfinished(path);
    throw;
  }
  return {path.filename().string(), file.size(), hash.hex()};
}

WrittenFile write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                              const SafetensorsOptions& options) {
  std::vector<TensorStream> streams;
  for (const NamedTensor& named : tensors) streams.push_back(stream_of(named, options.floating));
  SafetensorsOptions rest = options;
  rest.floating.reset();
  return write_safetensors(path, std::move(streams), rest);
}

TensorStream stream_of(const NamedTensor& named, std::optional<DType> floating) {
  const Tensor& source = named.tensor;
  SLUICE_ASSERT(source.defined());
  SLUICE_CHECK(!floating || is_floating(*floating), kInternal, "floating tensors cannot become {}",
               name_of(*floating));
  const DType dtype = floating && is_floating(source.dtype()) ? *floating : source.dtype();
  std::vector<int64_t> shape;
  for (int i = 0; i < source.rank(); ++i) shape.push_back(source.size(i));
  const auto stream = [source, dtype](const ByteSink& sink) {
    const Tensor tensor = source.to(Device::kCpu);  // one at a time
    if (tensor.dtype() == dtype && tensor.is_contiguous()) {
      sink({static_cast<const std::byte*>(tensor.raw_data()), static_cast<size_t>(tensor.bytes())});
      return;
    }
    const int64_t to_bytes = size_of(dtype);
    const int64_t elements = tensor.numel();
    const int64_t piece = kPieceBytes / to_bytes;
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(piece, elements) * to_bytes));
    for (int64_t first = 0; first < elements; first += piece) {
      const int64_t count = std::min(piece, elements - first);
      std::byte* out = buffer.data();
      for_each_run(tensor, first, count, [&](const std::byte* in, int64_t run) {
        convert_elements(stored_type_of(tensor.dtype()), in, dtype, out, run);
        out += run * to_bytes;
      });
      sink(std::span(buffer).first(static_cast<size_t>(count * to_bytes)));
    }
  };
  return {named.name, stored_type_of(dtype), std::move(shape), stream};
}

}  // namespace sluice
