// The activations as scalar functions with their slopes, for the loops of this folder. None may give NaN for
// a finite argument, however large: products of a vanishing and an overflowing factor are avoided.
#pragma once

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/vector_exp.h"
#include "kernels/activation/activation.h"

namespace sluice::kernels::cpu {

template <class T>
T sigmoid(T x) {
  return T(1) / (T(1) + vector_exp(-x));
}

template <class T>
T softplus(T x) {
  return (x > T(0) ? x : T(0)) + std::log1p(vector_exp(-std::abs(x)));
}

template <class T>
struct Identity {
  static T value(T x) { return x; }
  static T slope(T) { return T(1); }
};

template <class T>
struct Relu {
  static T value(T x) { return x < T(0) ? T(0) : x; }  // NaN stays
  static T slope(T x) { return x > T(0) ? T(1) : T(0); }
};

template <class T>
struct Relu6 {
  static T value(T x) { return x > T(6) ? T(6) : Relu<T>::value(x); }
  static T slope(T x) { return x > T(0) && x < T(6) ? T(1) : T(0); }
};

template <class T>
struct SquaredRelu {
  static T value(T x) { return Relu<T>::value(x) * Relu<T>::value(x); }
  static T slope(T x) { return T(2) * Relu<T>::value(x); }
};

template <class T>
struct Sigmoid {
  static T value(T x) { return sigmoid(x); }
  static T slope(T x) { return sigmoid(x) * sigmoid(-x); }
};

template <class T>
struct LogSigmoid {
  static T value(T x) { return -softplus(-x); }
  static T slope(T x) { return sigmoid(-x); }
};

template <class T>
struct Silu {
  static T value(T x) { return x * sigmoid(x); }
  static T slope(T x) {
    const T s = sigmoid(x);
    return s + x * s * (T(1) - s);
  }
};

template <class T>
struct Gelu {
  // erfc of the negative argument keeps its digits where 1 + erf cancels.
  static T distribution(T x) { return T(0.5) * std::erfc(-x * (std::numbers::sqrt2_v<T> / T(2))); }
  static T value(T x) { return x * distribution(x); }
  static T slope(T x) {
    constexpr T kDensityAtZero = std::numbers::inv_sqrtpi_v<T> / std::numbers::sqrt2_v<T>;
    return distribution(x) + x * kDensityAtZero * vector_exp(T(-0.5) * x * x);
  }
};

template <class T>
struct GeluTanh {
  // (1 + tanh u) / 2 = sigmoid(2u); doubled() is 2u.
  static constexpr T kFactor = T(2) * std::numbers::sqrt2_v<T> * std::numbers::inv_sqrtpi_v<T>;
  static T doubled(T x) { return kFactor * (x + T(0.044715) * x * x * x); }
  static T value(T x) { return x * sigmoid(doubled(x)); }
  static T slope(T x) {
    // Beyond 30 the second term is 0 in double, too, but its factors overflow.
    const T c = x < T(-30) ? T(-30) : x > T(30) ? T(30) : x;
    const T u = doubled(c);
    return sigmoid(doubled(x)) + c * sigmoid(u) * sigmoid(-u) * kFactor * (T(1) + T(3 * 0.044715) * c * c);
  }
};

template <class T>
struct Tanh {
  static T value(T x) { return std::tanh(x); }
  static T slope(T x) { return T(1) - std::tanh(x) * std::tanh(x); }
};

template <class T>
struct Elu {
  static T value(T x) { return x > T(0) ? x : std::expm1(x); }
  static T slope(T x) { return x > T(0) ? T(1) : vector_exp(x); }
};

template <class T>
struct Softplus {
  static T value(T x) { return softplus(x); }
  static T slope(T x) { return sigmoid(x); }
};

template <class T>
struct Mish {
  static T value(T x) { return x * std::tanh(softplus(x)); }
  static T slope(T x) {
    const T t = std::tanh(softplus(x));
    return t + x * (T(1) - t * t) * sigmoid(x);
  }
};

// Calls body.template operator()<F>() with F the struct of `activation`.
template <class T, class Body>
void visit_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kIdentity:
      return body.template operator()<Identity<T>>();
    case Activation::kRelu:
      return body.template operator()<Relu<T>>();
    case Activation::kRelu6:
      return body.template operator()<Relu6<T>>();
    case Activation::kSquaredRelu:
      return body.template operator()<SquaredRelu<T>>();
    case Activation::kSigmoid:
      return body.template operator()<Sigmoid<T>>();
    case Activation::kLogSigmoid:
      return body.template operator()<LogSigmoid<T>>();
    case Activation::kSilu:
      return body.template operator()<Silu<T>>();
    case Activation::kGelu:
      return body.template operator()<Gelu<T>>();
    case Activation::kGeluTanh:
      return body.template operator()<GeluTanh<T>>();
    case Activation::kTanh:
      return body.template operator()<Tanh<T>>();
    case Activation::kElu:
      return body.template operator()<Elu<T>>();
    case Activation::kSoftplus:
      return body.template operator()<Softplus<T>>();
    case Activation::kMish:
      return body.template operator()<Mish<T>>();
  }
  SLUICE_FAIL(kInternal, "[activation] has no implementation number {}", static_cast<int>(activation));
}

}  // namespace sluice::kernels::cpu
