// Several token files read as one sequence of tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/token_file.h"

namespace sluice {

// Holds at most kMaximumOpen descriptors, whatever the number of files. One thread at a time.
class TokenStream {
 public:
  static constexpr size_t kMaximumOpen = 64;

  // Every file is opened and checked. Error(kData) on the first that is not whole.
  explicit TokenStream(const std::vector<std::filesystem::path>& paths);
  explicit TokenStream(const std::string& source);  // through expand_sources

  int64_t size() const { return starts_.back(); }  // tokens
  const std::vector<TokenFile>& files() const { return files_; }

  // Tokens [first, first + out.size()); see TokenFile::read.
  void read(int64_t first, std::span<int32_t> out) const;
  // See TokenFile::mark_documents.
  void mark_documents(int64_t first, std::span<int32_t> flags) const;

  // Checks every file against the vocabulary, with a progress line; of `parts` equal shares of each file only
  // number `part`, so that ranks can divide the work.
  void check_vocabulary(int64_t vocabulary, int64_t part = 0, int64_t parts = 1) const;

 private:
  template <class Visit>  // visit(file, first token in it, offset into the range, tokens)
  void visit_files(int64_t first, int64_t count, Visit&& visit) const;
  void note_use(size_t file) const;

  std::vector<TokenFile> files_;
  std::vector<int64_t> starts_;       // first token of each file, and the total
  mutable std::vector<size_t> open_;  // files with a descriptor, least recently opened first
};

}  // namespace sluice
