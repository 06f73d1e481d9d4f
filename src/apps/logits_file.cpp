#include "apps/logits_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "core/file.h"
#include "train/window_scorer.h"

namespace sluice {
namespace {

// NumPy's format 1.0: magic, version, length of the description, the description padded to 64 bytes in all.
std::string npy_header(DType dtype, int64_t windows, int64_t length, int64_t vocabulary) {
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}, {}, {}), }}",
                                 dtype == DType::kF64 ? "<f8" : "<f4", windows, length, vocabulary);
  constexpr size_t kBefore = 10, kAlignment = 64;
  while ((kBefore + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';
  const auto size = static_cast<uint16_t>(text.size());
  std::string header("\x93NUMPY\x01\x00", 8);
  header.append(reinterpret_cast<const char*>(&size), sizeof size);
  return header + text;
}

void write_window(OutputFile& file, const LanguageModel& model, const TokenStream& tokens, int64_t first,
                  const LogitsOptions& options) {
  std::optional<ModelState> state;
  if (options.segment < options.length) state = model.make_state(1);
  for (int64_t start = 0; start < options.length; start += options.segment) {
    std::vector<int32_t> part(static_cast<size_t>(std::min(options.segment, options.length - start)));
    tokens.read(first + start, part);
    const auto layout = ops::SequenceLayout::uniform(1, static_cast<int64_t>(part.size()));
    const Variable hidden = model.forward(token_tensor(model, part), layout, state ? &*state : nullptr);
    const Tensor logits = model.logits(hidden).to(Device::kCpu);
    file.write({static_cast<const std::byte*>(logits.raw_data()), static_cast<size_t>(logits.bytes())});
  }
}

}  // namespace

int64_t write_logits(const std::filesystem::path& path, const LanguageModel& model, const TokenStream& tokens,
                     const LogitsOptions& options) {
  SLUICE_ASSERT(options.length >= 1 && options.segment >= 1);
  int64_t windows = tokens.size() / options.length;
  SLUICE_CHECK(windows >= 1, kData, "{} tokens are less than one window of {}", tokens.size(),
               options.length);
  if (options.max_tokens > 0) {
    windows = std::min(windows, std::max<int64_t>(1, options.max_tokens / options.length));
  }
  const DType dtype = model.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  const NoGradScope no_grad;
  OutputFile file(path, ErrorKind::kData);
  try {
    file.write(npy_header(dtype, windows, options.length, model.config().vocab_size));
    for (int64_t window = 0; window < windows; ++window) {
      write_window(file, model, tokens, window * options.length, options);
    }
    file.close();
  } catch (...) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored)) std::filesystem::remove(path, ignored);
    throw;
  }
  return windows;
}

}  // namespace sluice
