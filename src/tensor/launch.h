// From a tensor's device and dtype to the kernel that serves it.
//
//   dispatch_floating(x.dtype(), "silu", [&]<class T>() {
//     kernels::ActivationForward<T> p;
//     ... fill p ...
//     SLUICE_LAUNCH(T, x.device(), activation_forward, p);
//   });
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/profile_range.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

namespace sluice {

// CPU kernels compute in float and double, CUDA kernels in float and bfloat16.
template <class T>
inline constexpr bool kRunsOnCpu = !std::is_same_v<T, bfloat16>;
#ifdef SLUICE_HAVE_CUDA
template <class T>
inline constexpr bool kRunsOnCuda = !std::is_same_v<T, double>;
#else
template <class T>
inline constexpr bool kRunsOnCuda = false;
#endif

// Calls body.template operator()<T>() with T = float, double or bfloat16.
template <class Body>
decltype(auto) dispatch_floating(DType dtype, const char* op, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF64:
      return body.template operator()<double>();
    case DType::kBF16:
      return body.template operator()<bfloat16>();
    default:
      SLUICE_FAIL(kInternal, "[{}] has no implementation for dtype {}", op, name_of(dtype));
  }
}

[[noreturn]] void fail_without_kernel(const char* kernel, DType dtype, Device device);

// What states, norms' scales and parameter gradients of a tensor of this dtype are kept in.
inline DType accumulate_dtype(DType dtype) { return dtype == DType::kBF16 ? DType::kF32 : dtype; }

// Memory for one kernel call. It may go as soon as the call was made: work runs in order.
Tensor scratch(int64_t bytes, Device device);

}  // namespace sluice

// Runs kernels::<device>::kernel(params) with params of element type T.
#define SLUICE_LAUNCH(T, device, kernel, params)                             \
  do {                                                                       \
    const ::sluice::ProfileRange range_(#kernel);                            \
    if constexpr (::sluice::kRunsOnCpu<T>) {                                 \
      if ((device) == ::sluice::Device::kCpu) {                              \
        ::sluice::kernels::cpu::kernel(params);                              \
        break;                                                               \
      }                                                                      \
    }                                                                        \
    if constexpr (::sluice::kRunsOnCuda<T>) {                                \
      if ((device) == ::sluice::Device::kCuda) {                             \
        (params).stream = ::sluice::compute_stream(device);                  \
        ::sluice::kernels::cuda::kernel(params);                             \
        break;                                                               \
      }                                                                      \
    }                                                                        \
    ::sluice::fail_without_kernel(#kernel, ::sluice::dtype_of<T>(), device); \
  } while (false)

// The same for a kernel that needs scratch memory on a GPU.
#define SLUICE_LAUNCH_WITH_SCRATCH(T, device, kernel, params)                                      \
  do {                                                                                             \
    ::sluice::Tensor scratch_;                                                                     \
    if constexpr (::sluice::kRunsOnCuda<T>) {                                                      \
      if ((device) == ::sluice::Device::kCuda) {                                                   \
        scratch_ = ::sluice::scratch(::sluice::kernels::cuda::kernel##_workspace(params), device); \
        (params).workspace = scratch_.raw_data();                                                  \
      }                                                                                            \
    }                                                                                              \
    SLUICE_LAUNCH(T, device, kernel, params);                                                      \
  } while (false)
