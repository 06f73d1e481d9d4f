// Training batches from token files, prepared ahead by a thread of their own.
//
//   Loader loader({.sources = {{"data/train"}}, .sequence_length = 2048, .rows = 8, .vocabulary_size =
//   32000}); for (;;) { const Batch batch = loader.next(); ... save(loader.cursor()); }
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

constexpr int32_t kIgnoredLabel = -100;

struct LoaderSource {
  std::string path;     // see expand_sources in token_formats.h
  double weight = 1.0;  // share of the samples, relative to the other sources
};

struct LoaderOptions {
  std::vector<LoaderSource> sources;
  int64_t sequence_length = 0;  // L, tokens of a row
  int64_t rows = 1;             // sequences of one batch on this rank
  int64_t vocabulary_size = 0;  // every token must be below it
  bool shuffle = true;
  uint64_t seed = 0;                      // of the order
  std::optional<int64_t> document_token;  // first token of each document
  bool reset_at_documents = false;        // no label looks across the start of a document
  // What is not learned: labels below this id, and labels of positions in front of this one of a sequence.
  int64_t labels_from_token = 0;
  int64_t labels_from_position = 0;
  int64_t prefetch = 4;  // batches prepared ahead, >= 1
  int64_t rank = 0;
  int64_t world_size = 1;
  // Check every token against the vocabulary at once, each rank its share. Tokens handed out are always
  // checked.
  bool check_all_tokens = true;
};

struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int32_t> tokens;           // [rows, length]
  std::vector<int32_t> labels;           // [rows, length], the next token, or kIgnoredLabel
  std::vector<int32_t> document_starts;  // [rows, length], 1 where a document begins, else 0
  std::vector<int64_t> sample_ids;       // [rows], which sequence: counted through the sources in their order
  int64_t cursor_after = 0;              // Loader::cursor() once this batch has been handed out
  int64_t epoch = 0;                     // of the first sample of the global batch, see sequences_per_epoch()
};

// A source is the concatenation of its files. Sequence j of it has inputs [j * L, j * L + L) and labels one
// token further, so N tokens hold floor((N - 1) / L) sequences, none of which shares an input with another.
// Samples are numbered over all ranks (sampler.h): the global batch at cursor c has samples c to
// c + rows * world_size - 1, of which rank r takes those from c + r * rows on. So the order does not depend
// on the world size, and a checkpoint's cursor holds for any other. Documents begin at the document token and
// where a format's own index says so (Megatron).
//
// Error(kUsage) for options that make no sense; Error(kData) naming the file for one that is missing,
// damaged, holds a token outside the vocabulary, or for a source shorter than one sequence.
class Loader {
 public:
  explicit Loader(LoaderOptions options);
  ~Loader();

  // Waits for the next batch. A file that shrank or cannot be read since: Error(kData), now and on every
  // further call until seek().
  Batch next();

  // Samples handed out so far over all ranks, earlier runs included: all there is to save.
  int64_t cursor() const;
  // Goes on from a saved cursor.
  void seek(int64_t cursor);

  // All sequences of all sources. In a mix, where each source has epochs of its own, a nominal one.
  int64_t sequences_per_epoch() const;
  int64_t tokens() const;  // in all files
  // A line a source: files, formats, tokens, share of the mix.
  std::string describe() const;
  // Equal for loaders that hand out the same sequences in the same order: file names without their folders,
  // sizes, formats and the options that decide the order. Ranks compare it, and a resumed run with its
  // checkpoint.
  uint64_t fingerprint() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace sluice
