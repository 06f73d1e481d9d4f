// A file of token ids, whatever its format: an element type, a byte offset and a count. The formats
// (llmc_shard.h, megatron_dataset.h, bare_tokens.h) check their file and describe it with a TokenLayout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"

namespace sluice {

enum class TokenType { kUint16, kInt32, kUint32 };

int64_t size_of(TokenType type);  // bytes of one token

struct TokenLayout {
  std::filesystem::path path;
  std::string format;  // for people: "llm.c v1 (uint16)"
  TokenType type = TokenType::kUint16;
  int64_t offset = 0;      // byte of the first token
  int64_t count = 0;       // tokens
  int64_t file_bytes = 0;  // whole file, checked again whenever it is reopened
  // First token of every document, ascending, where the format knows; 8 bytes of memory a document.
  std::vector<int64_t> document_starts;
};

// Reads go through pread on a descriptor that is opened when first needed. One thread at a time.
class TokenFile {
 public:
  explicit TokenFile(TokenLayout layout) : layout_(std::move(layout)) {}

  int64_t size() const { return layout_.count; }  // tokens
  const std::filesystem::path& path() const { return layout_.path; }
  const std::string& format() const { return layout_.format; }
  int64_t file_bytes() const { return layout_.file_bytes; }
  TokenType type() const { return layout_.type; }
  const std::vector<int64_t>& document_starts() const { return layout_.document_starts; }

  // Tokens [first, first + out.size()). Error(kData) naming the file when it shrank, cannot be read, or holds
  // a value outside [0, 2^31).
  void read(int64_t first, std::span<int32_t> out) const;

  // Sets flags[i] to 1 where token first + i begins a document by the format's own index; leaves the others.
  void mark_documents(int64_t first, std::span<int32_t> flags) const;

  // Error(kData) naming the first token of [first, first + count) that is not below `vocabulary`, and its
  // position. Returns the number of tokens read: 0 where the element type rules such a token out.
  int64_t check_vocabulary(int64_t vocabulary, int64_t first, int64_t count,
                           const std::function<void(int64_t tokens)>& progress = {}) const;

  bool is_open() const { return file_.has_value(); }
  void close() const { file_.reset(); }  // the next read opens it again

 private:
  const InputFile& file() const;
  template <class T>
  int64_t check_typed(int64_t vocabulary, int64_t first, int64_t count,
                      const std::function<void(int64_t)>& progress) const;

  TokenLayout layout_;
  mutable std::optional<InputFile> file_;
};

}  // namespace sluice
