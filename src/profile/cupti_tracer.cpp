// The GPU's own records of what it did, from CUPTI's activity interface. The library is loaded when it is
// needed, since programs also run where only the driver is.
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

#include "core/cuda_check.h"
#include "core/profile_range.h"
#include "profile/device_tracer.h"
#include "profile/kernel_name.h"

namespace sluice::profile {
namespace {

#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
using CopyRecord = CUpti_ActivityMemcpy6;
#else
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
#endif
using FillRecord = CUpti_ActivityMemset4;

constexpr size_t kBufferBytes = size_t{8} << 20, kBufferAlignment = 8;
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMCPY2, CUPTI_ACTIVITY_KIND_MEMSET};

struct Library {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped = nullptr;
  decltype(&cuptiGetTimestamp) timestamp = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;

  // False where it is not there, or lacks a part.
  bool load(std::string& why_not) {
    void* handle = dlopen(SLUICE_CUPTI_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) handle = dlopen(SLUICE_CUPTI_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      why_not = SLUICE_CUPTI_SONAME " is not here; it comes with the CUDA toolkit (LD_LIBRARY_PATH)";
      return false;
    }
    const bool whole =
        find(handle, "cuptiActivityRegisterCallbacks", register_callbacks) &&
        find(handle, "cuptiActivityEnable", enable) && find(handle, "cuptiActivityDisable", disable) &&
        find(handle, "cuptiActivityFlushAll", flush) &&
        find(handle, "cuptiActivityGetNextRecord", next_record) &&
        find(handle, "cuptiActivityGetNumDroppedRecords", dropped) &&
        find(handle, "cuptiGetTimestamp", timestamp) && find(handle, "cuptiGetResultString", result_string);
    if (!whole)
      why_not = SLUICE_CUPTI_SONAME " is of another version than the headers this program was built with";
    return whole;
  }
  std::string describe(CUptiResult result) const {
    const char* text = nullptr;
    return result_string(result, &text) == CUPTI_SUCCESS && text != nullptr ? text : "an unknown error";
  }

 private:
  template <class F>
  static bool find(void* handle, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    return function != nullptr;
  }
};

// As it comes; names are looked at when the GPU is done.
struct Record {
  DeviceWork::Kind kind;
  const char* name;  // of kernels, mangled
  uint8_t copy_kind;
  uint64_t begin, end, bytes;
  uint32_t stream, graph;
};

// What CUPTI calls back; its interface has no place for an object.
struct Collected {
  std::mutex mutex;
  Library library;
  std::vector<Record> records;
  int64_t lost = 0;
};

Collected& collected() {
  // Never destroyed: CUPTI's threads may outlive everything.
  static auto* const instance = new Collected;
  return *instance;
}

void give_buffer(uint8_t** buffer, size_t* size, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;  // as many as fit
}

void keep(std::vector<Record>& records, const CUpti_Activity* activity) {
  switch (activity->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto* kernel = reinterpret_cast<const KernelRecord*>(activity);
      records.push_back({DeviceWork::Kind::kKernel, kernel->name, 0, kernel->start, kernel->end, 0,
                         kernel->streamId, kernel->graphId});
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY:
    case CUPTI_ACTIVITY_KIND_MEMCPY2: {  // of two devices; the fields in use lie alike
      const auto* copy = reinterpret_cast<const CopyRecord*>(activity);
      records.push_back({DeviceWork::Kind::kCopy, nullptr, copy->copyKind, copy->start, copy->end,
                         copy->bytes, copy->streamId, 0});
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto* fill = reinterpret_cast<const FillRecord*>(activity);
      records.push_back({DeviceWork::Kind::kFill, nullptr, 0, fill->start, fill->end, fill->bytes,
                         fill->streamId, fill->graphId});
      break;
    }
    default:
      break;
  }
}

void take_buffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t bytes) {
  Collected& all = collected();
  const std::lock_guard lock(all.mutex);
  CUpti_Activity* activity = nullptr;
  while (bytes > 0 && all.library.next_record(buffer, bytes, &activity) == CUPTI_SUCCESS)
    keep(all.records, activity);
  size_t dropped = 0;
  if (all.library.dropped(context, stream, &dropped) == CUPTI_SUCCESS)
    all.lost += static_cast<int64_t>(dropped);
  std::free(buffer);
}

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text != nullptr ? text : name;
  std::free(text);
  return result;
}

const char* name_of_copy(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy to the GPU";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy to the host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "copy on the GPU";
    case CUPTI_ACTIVITY_MEMCPY_KIND_PTOP:
      return "copy to another GPU";
    default:
      return "copy";
  }
}

class CuptiTracer final : public DeviceTracer {
 public:
  ~CuptiTracer() override {
    for (const CUpti_ActivityKind kind : kKinds) collected().library.disable(kind);
  }

  bool start(std::string& why_not) {
    Library& cupti = collected().library;
    if (!cupti.load(why_not)) return false;
    CUptiResult result = cupti.register_callbacks(give_buffer, take_buffer);
    for (const CUpti_ActivityKind kind : kKinds) {
      if (result == CUPTI_SUCCESS) result = cupti.enable(kind);
    }
    if (result != CUPTI_SUCCESS) {
      why_not = "CUPTI: " + cupti.describe(result) + " (is another profiler watching this program?)";
    }
    return result == CUPTI_SUCCESS;
  }

  std::vector<DeviceWork> take(int64_t& lost) override {
    Collected& all = collected();
    SLUICE_CUDA_CHECK(cudaDeviceSynchronize());
    const CUptiResult flushed = all.library.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    SLUICE_CHECK(flushed == CUPTI_SUCCESS, kInternal, "CUPTI: cuptiActivityFlushAll failed: {}",
                 all.library.describe(flushed));
    const int64_t to_host_clock = clock_difference();
    const std::lock_guard lock(all.mutex);
    std::vector<DeviceWork> work;
    for (const Record& record : all.records) work.push_back(work_of(record, to_host_clock));
    all.records.clear();
    lost = std::exchange(all.lost, 0);
    return work;
  }

 private:
  struct Name {
    std::string shown, full;
  };

  // The host's clock less CUPTI's, from the readings that came closest together.
  static int64_t clock_difference() {
    int64_t difference = 0, closest = INT64_MAX;
    for (int i = 0; i < 8; ++i) {
      uint64_t theirs = 0;
      const int64_t before = profile_clock();
      if (collected().library.timestamp(&theirs) != CUPTI_SUCCESS) continue;
      const int64_t after = profile_clock();
      if (after - before >= closest) continue;
      closest = after - before;
      difference = before + closest / 2 - static_cast<int64_t>(theirs);
    }
    return difference;
  }

  DeviceWork work_of(const Record& record, int64_t to_host_clock) {
    DeviceWork work;
    work.kind = record.kind;
    work.begin = static_cast<int64_t>(record.begin) + to_host_clock;
    work.end = static_cast<int64_t>(record.end) + to_host_clock;
    work.stream = record.stream;
    work.bytes = static_cast<int64_t>(record.bytes);
    work.of_graph = record.graph != 0;
    if (record.kind == DeviceWork::Kind::kKernel) {
      const Name& name = name_of(record.name);
      work.name = name.shown;
      work.full_name = name.full;
      work.collective = is_collective(name.shown);
    } else {
      work.name = record.kind == DeviceWork::Kind::kFill ? "fill" : name_of_copy(record.copy_kind);
    }
    return work;
  }

  const Name& name_of(const char* mangled) {
    const auto found = names_.find(mangled);
    if (found != names_.end()) return found->second;
    const std::string full = demangled(mangled != nullptr ? mangled : "?");
    return names_.emplace(mangled, Name{short_kernel_name(full), full}).first->second;
  }

  std::map<const char*, Name> names_;
};

}  // namespace

std::unique_ptr<DeviceTracer> make_device_tracer(std::string& why_not) {
  auto tracer = std::make_unique<CuptiTracer>();
  return tracer->start(why_not) ? std::move(tracer) : nullptr;
}

}  // namespace sluice::profile
