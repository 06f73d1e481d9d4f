#include "data/batch_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/progress.h"
#include "core/sha256.h"

namespace sluice {
namespace {

void check(const LoaderOptions& options) {
  SLUICE_CHECK(!options.sources.empty(), kUsage, "no data sources are given");
  SLUICE_CHECK(options.sequence_length >= 1, kUsage, "sequence length {} must be at least 1",
               options.sequence_length);
  SLUICE_CHECK(options.rows >= 1, kUsage, "a batch of {} sequences must have at least 1", options.rows);
  SLUICE_CHECK(options.vocabulary_size >= 1 && options.vocabulary_size <= int64_t{1} << 31, kUsage,
               "vocabulary size {} must be in 1 to 2^31", options.vocabulary_size);
  SLUICE_CHECK(
      options.labels_from_token >= 0 && options.labels_from_token < options.vocabulary_size &&
          options.labels_from_position >= 0 && options.labels_from_position < options.sequence_length,
      kUsage, "labels from token {} and position {} on would leave none, with {} tokens and sequences of {}",
      options.labels_from_token, options.labels_from_position, options.vocabulary_size,
      options.sequence_length);
  SLUICE_CHECK(options.prefetch >= 1, kUsage, "{} batches ahead must be at least 1", options.prefetch);
  SLUICE_CHECK(options.world_size >= 1 && options.rank >= 0 && options.rank < options.world_size, kUsage,
               "rank {} of {} does not exist", options.rank, options.world_size);
  if (options.document_token) {
    SLUICE_CHECK(*options.document_token >= 0 && *options.document_token < options.vocabulary_size, kUsage,
                 "document token {} is outside the vocabulary of {}", *options.document_token,
                 options.vocabulary_size);
  }
  int64_t elements = 0, samples = 0;
  SLUICE_CHECK(!__builtin_mul_overflow(options.rows, options.sequence_length, &elements) &&
                   elements <= int64_t{1} << 40 &&
                   !__builtin_mul_overflow(options.rows, options.world_size, &samples),
               kUsage, "a batch of {} sequences of {} tokens on {} ranks is beyond what memory holds",
               options.rows, options.sequence_length, options.world_size);
}

}  // namespace

BatchReader::BatchReader(LoaderOptions options) : options_(std::move(options)) {
  check(options_);
  const int64_t length = options_.sequence_length;
  std::vector<int64_t> sequences;
  std::vector<double> weights;
  std::vector<std::string> names;
  first_ids_.push_back(0);
  bool documents_known = options_.document_token.has_value();
  for (const LoaderSource& source : options_.sources) {
    const TokenStream& stream = streams_.emplace_back(source.path);
    SLUICE_CHECK(stream.size() - 1 >= length, kData,
                 "{}: {} tokens in {} file(s) are less than one sequence; sequence length {} needs {}",
                 source.path, stream.size(), stream.files().size(), length, length + 1);
    sequences.push_back((stream.size() - 1) / length);
    weights.push_back(source.weight);
    names.push_back(source.path);
    first_ids_.push_back(first_ids_.back() + sequences.back());
    for (const TokenFile& file : stream.files()) documents_known |= !file.document_starts().empty();
  }
  SLUICE_CHECK(!options_.reset_at_documents || documents_known, kUsage,
               "resetting at documents needs the document token, or files that know their documents");
  sampler_.emplace(std::move(sequences), weights, names, options_.shuffle, options_.seed);
  if (options_.check_all_tokens) {
    for (const TokenStream& stream : streams_) {
      stream.check_vocabulary(options_.vocabulary_size, options_.rank, options_.world_size);
    }
  }
  window_.resize(static_cast<size_t>(length + 1));
  starts_.resize(static_cast<size_t>(length + 1));
}

Batch BatchReader::read(int64_t cursor) const {
  const int64_t rows = options_.rows, length = options_.sequence_length;
  const auto elements = static_cast<size_t>(rows * length);
  Batch batch{.rows = rows,
              .length = length,
              .tokens = std::vector<int32_t>(elements),
              .labels = std::vector<int32_t>(elements),
              .document_starts = std::vector<int32_t>(elements),
              .sample_ids = std::vector<int64_t>(static_cast<size_t>(rows)),
              .cursor_after = cursor + rows * options_.world_size,
              .epoch = cursor / sequences_per_epoch()};
  for (int64_t row = 0; row < rows; ++row) read_row(cursor, row, batch);
  return batch;
}

void BatchReader::read_row(int64_t cursor, int64_t row, Batch& batch) const {
  const int64_t length = options_.sequence_length;
  const Sample sample = sampler_->sample(cursor + options_.rank * options_.rows + row);
  const TokenStream& stream = streams_[static_cast<size_t>(sample.source)];
  const int64_t first = sample.sequence * length;
  stream.read(first, window_);
  const int32_t largest = *std::max_element(window_.begin(), window_.end());
  SLUICE_CHECK(largest < options_.vocabulary_size, kData,
               "{}: id {} among tokens {} to {} is outside the vocabulary of {}",
               options_.sources[static_cast<size_t>(sample.source)].path, largest, first, first + length,
               options_.vocabulary_size);
  std::fill(starts_.begin(), starts_.end(), 0);
  stream.mark_documents(first, starts_);
  if (options_.document_token) {
    for (size_t i = 0; i < window_.size(); ++i) starts_[i] |= window_[i] == *options_.document_token ? 1 : 0;
  }
  const auto at = row * length;
  std::copy_n(window_.begin(), length, batch.tokens.begin() + at);
  std::copy_n(starts_.begin(), length, batch.document_starts.begin() + at);
  std::copy_n(window_.begin() + 1, length, batch.labels.begin() + at);
  if (options_.reset_at_documents) {
    for (int64_t i = 0; i < length; ++i) {
      if (starts_[static_cast<size_t>(i + 1)] != 0) batch.labels[static_cast<size_t>(at + i)] = kIgnoredLabel;
    }
  }
  ignore_labels(batch.labels, at);
  batch.sample_ids[static_cast<size_t>(row)] =
      first_ids_[static_cast<size_t>(sample.source)] + sample.sequence;
}

void BatchReader::ignore_labels(std::vector<int32_t>& labels, int64_t row_begin) const {
  const auto row = labels.begin() + row_begin;
  for (int64_t i = 0; i < options_.sequence_length; ++i) {
    if (i < options_.labels_from_position || row[i] < options_.labels_from_token) row[i] = kIgnoredLabel;
  }
}

int64_t BatchReader::tokens() const {
  int64_t total = 0;
  for (const TokenStream& stream : streams_) total += stream.size();
  return total;
}

std::string BatchReader::describe() const {
  std::string text;
  const Mix& mix = sampler_->mix();
  for (size_t i = 0; i < streams_.size(); ++i) {
    std::set<std::string> formats;
    for (const TokenFile& file : streams_[i].files()) formats.insert(file.format());
    std::string listed;
    for (const std::string& format : formats) listed += (listed.empty() ? "" : ", ") + format;
    const auto source = static_cast<int64_t>(i);
    text += fmt::format("{}{}: {} file(s), {}, {} tokens, {} sequences of {}", i == 0 ? "" : "\n",
                        options_.sources[i].path, streams_[i].files().size(), listed,
                        format_count(static_cast<double>(streams_[i].size())),
                        first_ids_[i + 1] - first_ids_[i], options_.sequence_length);
    if (streams_.size() > 1) {
      text += fmt::format(", {:.4g}% of the samples",
                          100.0 * static_cast<double>(mix.slots(source)) / static_cast<double>(mix.period()));
    }
  }
  return text;
}

uint64_t BatchReader::fingerprint() const {
  // Text, so that no field can run into the next.
  std::string text = fmt::format("length {}\nshuffle {}\nseed {}\ndocument {}\nreset {}\n",
                                 options_.sequence_length, options_.shuffle, options_.seed,
                                 options_.document_token.value_or(-1), options_.reset_at_documents);
  if (options_.labels_from_token > 0 || options_.labels_from_position > 0) {
    text += fmt::format("labels from {} at {}\n", options_.labels_from_token, options_.labels_from_position);
  }
  for (size_t i = 0; i < streams_.size(); ++i) {
    text += fmt::format("source {} of {}\n", sampler_->mix().slots(static_cast<int64_t>(i)),
                        sampler_->mix().period());
    for (const TokenFile& file : streams_[i].files()) {
      text += fmt::format("{}\n{} {} {}\n", file.path().filename().string(), file.format(), file.size(),
                          file.file_bytes());
    }
  }
  return std::stoull(sha256_hex(std::as_bytes(std::span(text))).substr(0, 16), nullptr, 16);
}

}  // namespace sluice
