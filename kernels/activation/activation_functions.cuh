// The activations as functions of floats with their slopes, in device code, for numbers stored as T;
// activation_functions_cpu.h is their twin. None gives NaN for a finite argument, however large.
#pragma once

#include "kernels/activation/activation.h"
#include "kernels/common/math.cuh"

namespace sluice::kernels {

template <class T>
struct DeviceIdentity {
  __device__ static float value(float x) { return x; }
  __device__ static float slope(float) { return 1.0f; }
};

template <class T>
struct DeviceRelu {
  __device__ static float value(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays
  __device__ static float slope(float x) { return x > 0.0f ? 1.0f : 0.0f; }
};

template <class T>
struct DeviceRelu6 {
  __device__ static float value(float x) { return x > 6.0f ? 6.0f : DeviceRelu<T>::value(x); }
  __device__ static float slope(float x) { return x > 0.0f && x < 6.0f ? 1.0f : 0.0f; }
};

template <class T>
struct DeviceSquaredRelu {
  __device__ static float value(float x) { return DeviceRelu<T>::value(x) * DeviceRelu<T>::value(x); }
  __device__ static float slope(float x) { return 2.0f * DeviceRelu<T>::value(x); }
};

template <class T>
struct DeviceSigmoid {
  __device__ static float value(float x) { return sigmoid<T>(x); }
  __device__ static float slope(float x) { return sigmoid<T>(x) * sigmoid<T>(-x); }
};

template <class T>
struct DeviceLogSigmoid {
  __device__ static float value(float x) { return -softplus<T>(-x); }
  __device__ static float slope(float x) { return sigmoid<T>(-x); }
};

template <class T>
struct DeviceSilu {
  __device__ static float value(float x) { return x * sigmoid<T>(x); }
  __device__ static float slope(float x) {
    const float s = sigmoid<T>(x);
    return s + x * s * (1.0f - s);
  }
};

template <class T>
struct DeviceGelu {
  __device__ static float value(float x) { return x * normal_distribution<T>(x); }
  __device__ static float slope(float x) {
    constexpr float kDensityAtZero = 0.398942280f;  // 1 / sqrt(2 pi)
    return normal_distribution<T>(x) + x * kDensityAtZero * exponential<T>(-0.5f * x * x);
  }
};

template <class T>
struct DeviceGeluTanh {
  static constexpr float kFactor = 1.59576912f;  // 2 sqrt(2 / pi)
  __device__ static float doubled(float x) { return kFactor * (x + 0.044715f * x * x * x); }
  __device__ static float value(float x) { return x * sigmoid<T>(doubled(x)); }
  __device__ static float slope(float x) {
    // Beyond 30 the second term is 0, but its factors overflow.
    const float c = fminf(fmaxf(x, -30.0f), 30.0f);
    const float u = doubled(c);
    return sigmoid<T>(doubled(x)) +
           c * sigmoid<T>(u) * sigmoid<T>(-u) * kFactor * (1.0f + 3 * 0.044715f * c * c);
  }
};

template <class T>
struct DeviceTanh {
  __device__ static float value(float x) { return tanhf(x); }
  __device__ static float slope(float x) { return 1.0f - tanhf(x) * tanhf(x); }
};

template <class T>
struct DeviceElu {
  __device__ static float value(float x) { return x > 0.0f ? x : expm1f(x); }
  __device__ static float slope(float x) { return x > 0.0f ? 1.0f : exponential<T>(x); }
};

template <class T>
struct DeviceSoftplus {
  __device__ static float value(float x) { return softplus<T>(x); }
  __device__ static float slope(float x) { return sigmoid<T>(x); }
};

template <class T>
struct DeviceMish {
  __device__ static float value(float x) { return x * tanhf(softplus<T>(x)); }
  __device__ static float slope(float x) {
    const float t = tanhf(softplus<T>(x));
    return t + x * (1.0f - t * t) * sigmoid<T>(x);
  }
};

// Calls body(F()) with F the struct of `activation`. Decided at run time, once a pack: all threads go the
// same way, and one kernel serves every activation.
template <class T, class Body>
__device__ __forceinline__ void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kIdentity:
      return body(DeviceIdentity<T>());
    case Activation::kRelu:
      return body(DeviceRelu<T>());
    case Activation::kRelu6:
      return body(DeviceRelu6<T>());
    case Activation::kSquaredRelu:
      return body(DeviceSquaredRelu<T>());
    case Activation::kSigmoid:
      return body(DeviceSigmoid<T>());
    case Activation::kLogSigmoid:
      return body(DeviceLogSigmoid<T>());
    case Activation::kSilu:
      return body(DeviceSilu<T>());
    case Activation::kGelu:
      return body(DeviceGelu<T>());
    case Activation::kGeluTanh:
      return body(DeviceGeluTanh<T>());
    case Activation::kTanh:
      return body(DeviceTanh<T>());
    case Activation::kElu:
      return body(DeviceElu<T>());
    case Activation::kSoftplus:
      return body(DeviceSoftplus<T>());
    case Activation::kMish:
      return body(DeviceMish<T>());
  }
}

}  // namespace sluice::kernels
