// Threads that encode pieces of text; results come back in the order of the pieces, whatever the number of
// threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <future>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "data/text_source.h"
#include "data/tokenizer.h"

namespace sluice::tokenize {

struct TextBatch {
  std::vector<TextPiece> pieces;
  int64_t bytes = 0;
};

struct TokenBatch {
  std::vector<int32_t> tokens;    // of all pieces, the document token before each document
  std::vector<size_t> ends;       // [pieces] where each piece ends in `tokens`
  std::vector<TextPiece> pieces;  // what they were, without their text
  std::vector<int64_t> bytes;     // [pieces] of text
};

class EncodePool {
 public:
  // The tokenizer must outlive the pool.
  EncodePool(const Tokenizer& tokenizer, int32_t document_token, int threads);
  ~EncodePool();

  // Batches are encoded by any thread; `take` gives them back in the order of `submit`, and throws what the
  // encoding threw.
  void submit(TextBatch batch);
  TokenBatch take();
  // Enough to keep every thread busy; submitting more only costs memory.
  bool is_full() const { return results_.size() >= capacity_; }
  bool is_empty() const { return results_.empty(); }

 private:
  void work(const std::stop_token& stop);

  const Tokenizer& tokenizer_;
  int32_t document_token_;
  size_t capacity_;
  std::deque<std::future<TokenBatch>> results_;  // of the caller's thread
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::pair<TextBatch, std::promise<TokenBatch>>> queue_;
  std::vector<std::jthread> threads_;  // last: gone before what they use
};

}  // namespace sluice::tokenize
