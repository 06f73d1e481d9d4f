#include "core/cuda_check.h"
#include "tensor/cuda_allocator.h"
#include "tensor/device.h"
#include "tensor/device_graph.h"

namespace sluice {

struct DeviceGraph::Recording {
  explicit Recording(const std::function<void()>& work) : memory([&] { capture(work); }) {}
  ~Recording() {
    if (executable == nullptr) return;
    cudaStreamSynchronize(compute_stream(Device::kCuda));
    cudaGraphExecDestroy(executable);
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void capture(const std::function<void()>& work) {
    const cudaStream_t stream = compute_stream(Device::kCuda);
    SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      throw;
    }
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    SLUICE_CUDA_CHECK(made);
  }

  cudaGraphExec_t executable = nullptr;
  GraphMemory memory;  // declared last: capture() fills what is above
};

DeviceGraph::DeviceGraph() = default;
DeviceGraph::~DeviceGraph() = default;

void DeviceGraph::record(const std::function<void()>& work) {
  recording_.reset();
  recording_ = std::make_unique<Recording>(work);
}

void DeviceGraph::replay() const {
  SLUICE_ASSERT(recording_ != nullptr);
  SLUICE_CUDA_CHECK(cudaGraphLaunch(recording_->executable, compute_stream(Device::kCuda)));
}

void DeviceGraph::clear() { recording_.reset(); }

}  // namespace sluice
