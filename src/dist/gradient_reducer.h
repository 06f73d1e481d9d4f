// Sums gradients over ranks while backward still runs: the flat gradient buffer is cut into buckets, and each
// is sent as soon as its last gradient is complete. A backward pass may be recorded and replayed
// (tensor/device_graph.h): buckets leave at their places in every replay.
//
//   reducer.arm();                 // the backward pass that comes completes the gradients
//   ... reducer.mark_ready(i) for each parameter, by autograd's hook ...
//   reducer.flush();               // sends what is left
//   communicator.wait();           // from here on the buffer holds sums
#pragma once

#include <cstdint>
#include <vector>

#include "dist/communicator.h"

namespace sluice {

class GradientReducer {
 public:
  // Elements [begin, end) of the buffer are one parameter's gradient.
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };

  enum class Result { kAll, kOwnSlices };  // every rank has all sums, or those of its slice of each bucket

  // `gradients` is flat; `parameters` in any order, without overlap. Buckets have `bucket_elements` each, the
  // last one perhaps fewer; for kOwnSlices all have as many, a multiple of the number of ranks.
  GradientReducer(Communicator& communicator, Tensor gradients, const std::vector<Range>& parameters,
                  int64_t bucket_elements, Result result = Result::kAll);

  // Before this, mark_ready() is ignored: gradients that are still added to must not travel.
  void arm();
  // Parameter i, counted as given to the constructor, has its gradient. Buckets leave in the order of memory,
  // on every rank alike, whatever order backward completes them in.
  void mark_ready(size_t parameter);
  // All that was not sent yet leaves now. Not armed any more.
  void flush();

  size_t bucket_count() const { return buckets_.size(); }
  size_t buckets_started() const { return next_; }  // since arm()

 private:
  struct Bucket {
    int64_t begin = 0, end = 0;
    int64_t parameters = 0;  // that lie in it, in whole or in part
    int64_t missing = 0;
  };
  void start(size_t bucket);
  void send(const Bucket& bucket);

  Communicator& communicator_;
  Tensor gradients_;
  std::vector<Bucket> buckets_;
  std::vector<Range> buckets_of_;  // of each parameter
  Result result_;
  std::vector<bool> ready_;
  size_t next_ = 0;  // bucket to be sent
  bool armed_ = false;
};

}  // namespace sluice
