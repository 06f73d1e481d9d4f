#include "tools/tokenize/encode_pool.h"

#include <exception>

namespace sluice::tokenize {
namespace {

TokenBatch encode(Encoder& encoder, int32_t document_token, TextBatch batch) {
  TokenBatch result;
  for (TextPiece& piece : batch.pieces) {
    if (piece.begins_document) result.tokens.push_back(document_token);
    encoder.encode(piece.text, !piece.begins_document, result.tokens);
    result.ends.push_back(result.tokens.size());
    result.bytes.push_back(static_cast<int64_t>(piece.text.size()));
    piece.text = {};
  }
  result.pieces = std::move(batch.pieces);
  return result;
}

}  // namespace

EncodePool::EncodePool(const Tokenizer& tokenizer, int32_t document_token, int threads)
    : tokenizer_(tokenizer),
      document_token_(document_token),
      capacity_(2 * static_cast<size_t>(threads) + 1) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
}

EncodePool::~EncodePool() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void EncodePool::submit(TextBatch batch) {
  std::promise<TokenBatch> promise;
  results_.push_back(promise.get_future());
  {
    const std::lock_guard lock(mutex_);
    queue_.emplace_back(std::move(batch), std::move(promise));
  }
  changed_.notify_one();
}

TokenBatch EncodePool::take() {
  std::future<TokenBatch> result = std::move(results_.front());
  results_.pop_front();
  return result.get();
}

void EncodePool::work(const std::stop_token& stop) {
  Encoder encoder(tokenizer_);
  for (;;) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [this] { return !queue_.empty(); })) return;
    auto [batch, promise] = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    try {
      promise.set_value(encode(encoder, document_token_, std::move(batch)));
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  }
}

}  // namespace sluice::tokenize
