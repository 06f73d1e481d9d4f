#include <utility>
#include <vector>

#include "core/cuda_check.h"
#include "tensor/cuda_allocator.h"
#include "tensor/device.h"
#include "tensor/device_graph.h"

namespace sluice {

struct DeviceGraph::Recording {
  explicit Recording(const std::function<void()>& work) : memory([&] { record(work); }) {}
  ~Recording() {
    cudaStreamSynchronize(compute_stream(Device::kCuda));
    for (const Piece& piece : pieces) {
      if (piece.executable != nullptr) cudaGraphExecDestroy(piece.executable);
    }
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void record(const std::function<void()>& work) {
    SLUICE_ASSERT(current == nullptr);
    begin();
    current = this;
    try {
      work();
    } catch (...) {
      current = nullptr;
      cudaGraph_t graph = nullptr;
      if (cudaStreamEndCapture(compute_stream(Device::kCuda), &graph) == cudaSuccess) cudaGraphDestroy(graph);
      throw;
    }
    current = nullptr;
    end({});
  }

  void cut(std::function<void()> then) {
    end(std::move(then));
    begin();
  }

  // The recording under way in this process, whose device work is one thread's.
  static inline Recording* current = nullptr;

  struct Piece {
    cudaGraphExec_t executable = nullptr;  // null: nothing
    std::function<void()> then;
  };
  std::vector<Piece> pieces;
  GraphMemory memory;  // declared last: record() fills what is above

 private:
  static void begin() {
    SLUICE_CUDA_CHECK(
        cudaStreamBeginCapture(compute_stream(Device::kCuda), cudaStreamCaptureModeThreadLocal));
  }

  void end(std::function<void()> then) {
    cudaGraph_t graph = nullptr;
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(compute_stream(Device::kCuda), &graph));
    size_t nodes = 0;
    Piece piece{nullptr, std::move(then)};
    cudaError_t made = cudaGraphGetNodes(graph, nullptr, &nodes);
    if (made == cudaSuccess && nodes > 0) made = cudaGraphInstantiate(&piece.executable, graph, 0);
    cudaGraphDestroy(graph);
    SLUICE_CUDA_CHECK(made);
    pieces.push_back(std::move(piece));
  }
};

DeviceGraph::DeviceGraph() = default;
DeviceGraph::~DeviceGraph() = default;

void DeviceGraph::record(const std::function<void()>& work) {
  recording_.reset();
  recording_ = std::make_unique<Recording>(work);
}

void DeviceGraph::replay() const {
  SLUICE_ASSERT(recording_ != nullptr);
  for (const Recording::Piece& piece : recording_->pieces) {
    if (piece.executable != nullptr)
      SLUICE_CUDA_CHECK(cudaGraphLaunch(piece.executable, compute_stream(Device::kCuda)));
    if (piece.then) piece.then();
  }
}

void DeviceGraph::on_host(std::function<void()> work) {
  if (Recording::current != nullptr) {
    Recording::current->cut(std::move(work));
  } else {
    work();
  }
}

void DeviceGraph::clear() { recording_.reset(); }

}  // namespace sluice
