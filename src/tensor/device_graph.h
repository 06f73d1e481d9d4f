// A stretch of GPU work recorded once and launched again as a whole: hundreds of kernels at the cost of one
// launch, or a few, since what the host does in between (on_host()) cuts it. The work must read and write the
// same memory every time, and nothing on the host may depend on its outcome.
#pragma once

#include <functional>
#include <memory>

namespace sluice {

class DeviceGraph {
 public:
  DeviceGraph();
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  // Runs `work`, whose kernels are recorded instead of executed. What it must not do while recording, such as
  // uploading from the host or choosing a plan for a product, must have happened before: run it once as it
  // is.
  void record(const std::function<void()>& work);
  bool recorded() const { return recording_ != nullptr; }
  // Work of the host between what the device was given before and what it is given after: done at once, or,
  // where a graph is being recorded, at its place in every replay (and not while recording).
  static void on_host(std::function<void()> work);

  // Executes what was recorded, in the order of the compute stream. The same bits as running the work itself.
  void replay() const;
  void clear();

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace sluice
