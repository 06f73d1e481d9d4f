// Batch number by number from the sources of a loader: everything of it but the thread.
#pragma once

#include <optional>
#include <vector>

#include "data/loader.h"
#include "data/sampler.h"
#include "data/token_stream.h"

namespace sluice {

// Checks options and files as Loader documents. One thread at a time.
class BatchReader {
 public:
  explicit BatchReader(LoaderOptions options);

  // This rank's part of the global batch that begins at sample `cursor`.
  Batch read(int64_t cursor) const;

  const LoaderOptions& options() const { return options_; }
  int64_t sequences_per_epoch() const { return first_ids_.back(); }
  int64_t tokens() const;
  std::string describe() const;
  uint64_t fingerprint() const;

 private:
  void read_row(int64_t cursor, int64_t row, Batch& batch) const;
  void ignore_labels(std::vector<int32_t>& labels, int64_t row_begin) const;

  LoaderOptions options_;
  std::vector<TokenStream> streams_;
  std::vector<int64_t> first_ids_;  // sample id of the first sequence of each source, and the total
  std::optional<Sampler> sampler_;  // made once the sources are known
  mutable std::vector<int32_t> window_, starts_;  // [length + 1], of the row being read
};

}  // namespace sluice
