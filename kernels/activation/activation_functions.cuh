// The activations as functions of floats with their slopes, in device code; activation_functions_cpu.h is
// their twin. None gives NaN for a finite argument, however large.
#pragma once

#include "kernels/activation/activation.h"
#include "kernels/common/math.cuh"

namespace sluice::kernels {

struct DeviceIdentity {
  __device__ static float value(float x) { return x; }
  __device__ static float slope(float) { return 1.0f; }
};

struct DeviceRelu {
  __device__ static float value(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays
  __device__ static float slope(float x) { return x > 0.0f ? 1.0f : 0.0f; }
};

struct DeviceRelu6 {
  __device__ static float value(float x) { return x > 6.0f ? 6.0f : DeviceRelu::value(x); }
  __device__ static float slope(float x) { return x > 0.0f && x < 6.0f ? 1.0f : 0.0f; }
};

struct DeviceSquaredRelu {
  __device__ static float value(float x) { return DeviceRelu::value(x) * DeviceRelu::value(x); }
  __device__ static float slope(float x) { return 2.0f * DeviceRelu::value(x); }
};

struct DeviceSigmoid {
  __device__ static float value(float x) { return sigmoid(x); }
  __device__ static float slope(float x) { return sigmoid(x) * sigmoid(-x); }
};

struct DeviceLogSigmoid {
  __device__ static float value(float x) { return -softplus(-x); }
  __device__ static float slope(float x) { return sigmoid(-x); }
};

struct DeviceSilu {
  __device__ static float value(float x) { return x * sigmoid(x); }
  __device__ static float slope(float x) {
    const float s = sigmoid(x);
    return s + x * s * (1.0f - s);
  }
};

struct DeviceGelu {
  __device__ static float value(float x) { return x * normcdff(x); }
  __device__ static float slope(float x) {
    constexpr float kDensityAtZero = 0.398942280f;  // 1 / sqrt(2 pi)
    return normcdff(x) + x * kDensityAtZero * expf(-0.5f * x * x);
  }
};

struct DeviceGeluTanh {
  static constexpr float kFactor = 1.59576912f;  // 2 sqrt(2 / pi)
  __device__ static float doubled(float x) { return kFactor * (x + 0.044715f * x * x * x); }
  __device__ static float value(float x) { return x * sigmoid(doubled(x)); }
  __device__ static float slope(float x) {
    // Beyond 30 the second term is 0, but its factors overflow.
    const float c = fminf(fmaxf(x, -30.0f), 30.0f);
    const float u = doubled(c);
    return sigmoid(doubled(x)) + c * sigmoid(u) * sigmoid(-u) * kFactor * (1.0f + 3 * 0.044715f * c * c);
  }
};

struct DeviceTanh {
  __device__ static float value(float x) { return tanhf(x); }
  __device__ static float slope(float x) { return 1.0f - tanhf(x) * tanhf(x); }
};

struct DeviceElu {
  __device__ static float value(float x) { return x > 0.0f ? x : expm1f(x); }
  __device__ static float slope(float x) { return x > 0.0f ? 1.0f : expf(x); }
};

struct DeviceSoftplus {
  __device__ static float value(float x) { return softplus(x); }
  __device__ static float slope(float x) { return sigmoid(x); }
};

struct DeviceMish {
  __device__ static float value(float x) { return x * tanhf(softplus(x)); }
  __device__ static float slope(float x) {
    const float t = tanhf(softplus(x));
    return t + x * (1.0f - t * t) * sigmoid(x);
  }
};

// Calls body(F()) with F the struct of `activation`. Decided at run time, once a pack: all threads go the
// same way, and one kernel serves every activation.
template <class Body>
__device__ __forceinline__ void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kIdentity:
      return body(DeviceIdentity());
    case Activation::kRelu:
      return body(DeviceRelu());
    case Activation::kRelu6:
      return body(DeviceRelu6());
    case Activation::kSquaredRelu:
      return body(DeviceSquaredRelu());
    case Activation::kSigmoid:
      return body(DeviceSigmoid());
    case Activation::kLogSigmoid:
      return body(DeviceLogSigmoid());
    case Activation::kSilu:
      return body(DeviceSilu());
    case Activation::kGelu:
      return body(DeviceGelu());
    case Activation::kGeluTanh:
      return body(DeviceGeluTanh());
    case Activation::kTanh:
      return body(DeviceTanh());
    case Activation::kElu:
      return body(DeviceElu());
    case Activation::kSoftplus:
      return body(DeviceSoftplus());
    case Activation::kMish:
      return body(DeviceMish());
  }
}

}  // namespace sluice::kernels
