#include "data/loader.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stop_token>
#include <thread>

#include "core/error.h"
#include "data/batch_reader.h"

namespace sluice {

// The thread owns `reader_.read`; everything the two threads share is under `mutex_`.
class Loader::Implementation {
 public:
  explicit Implementation(LoaderOptions options) : reader_(std::move(options)) { start(); }

  const BatchReader& reader() const { return reader_; }
  int64_t cursor() const { return cursor_; }

  Batch next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty() || failure_; });
    // Batches read before the failure are good and come first.
    if (ready_.empty()) std::rethrow_exception(failure_);
    Batch batch = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    cursor_ = batch.cursor_after;
    return batch;
  }

  void seek(int64_t cursor) {
    // The bound leaves room to count on from there without overflow.
    SLUICE_CHECK(cursor >= 0 && cursor <= int64_t{1} << 62, kUsage, "cannot go on from sample {} of the data",
                 cursor);
    thread_ = {};  // asks it to stop and waits
    ready_.clear();
    failure_ = nullptr;
    cursor_ = cursor;
    start();
  }

 private:
  void start() {
    thread_ = std::jthread([this, cursor = cursor_](std::stop_token stop) { prefetch(stop, cursor); });
  }

  void prefetch(const std::stop_token& stop, int64_t cursor) {
    try {
      while (!stop.stop_requested()) {
        Batch batch = reader_.read(cursor);
        cursor = batch.cursor_after;
        std::unique_lock lock(mutex_);
        const auto room = [this] { return static_cast<int64_t>(ready_.size()) < reader_.options().prefetch; };
        if (!changed_.wait(lock, stop, room)) return;
        ready_.push_back(std::move(batch));
        lock.unlock();
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      changed_.notify_all();
    }
  }

  BatchReader reader_;
  int64_t cursor_ = 0;  // of the caller's thread alone
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Batch> ready_;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: gone before what it uses
};

Loader::Loader(LoaderOptions options)
    : implementation_(std::make_unique<Implementation>(std::move(options))) {}
Loader::~Loader() = default;

Batch Loader::next() { return implementation_->next(); }
int64_t Loader::cursor() const { return implementation_->cursor(); }
void Loader::seek(int64_t cursor) { implementation_->seek(cursor); }
int64_t Loader::sequences_per_epoch() const { return implementation_->reader().sequences_per_epoch(); }
int64_t Loader::tokens() const { return implementation_->reader().tokens(); }
std::string Loader::describe() const { return implementation_->reader().describe(); }
uint64_t Loader::fingerprint() const { return implementation_->reader().fingerprint(); }

}  // namespace sluice
