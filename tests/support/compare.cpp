#include "support/compare.h"

#include <fmt/core.h>

#include <cmath>

namespace sluice::test {
namespace {

std::string coordinate(const Shape& shape, int64_t flat) {
  std::string text;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    text = std::to_string(flat % shape[i]) + (text.empty() ? "" : ", ") + text;
    flat /= shape[i];
  }
  return "[" + text + "]";
}

}  // namespace

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  Comparison result;
  result.rms_relative = std::nan("");
  if (!actual.defined() || !expected.defined() || !(actual.shape() == expected.shape())) {
    result.message = fmt::format("shapes differ: {} against {}",
                                 actual.defined() ? actual.shape().to_string() : "undefined",
                                 expected.defined() ? expected.shape().to_string() : "undefined");
    return result;
  }
  const auto a = actual.to(DType::kF64).to_vector<double>();
  const auto e = expected.to(DType::kF64).to_vector<double>();
  double error_squares = 0, squares = 0;
  int64_t finite = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same_kind = std::isnan(a[i]) == std::isnan(e[i]) && std::isinf(a[i]) == std::isinf(e[i]) &&
                           (!std::isinf(e[i]) || a[i] == e[i]);
    if (!same_kind) {
      result.message = fmt::format("at {} got {}, expected {}",
                                   coordinate(actual.shape(), static_cast<int64_t>(i)), a[i], e[i]);
      return result;
    }
    if (!std::isfinite(e[i])) continue;
    ++finite;
    squares += e[i] * e[i];
    error_squares += (a[i] - e[i]) * (a[i] - e[i]);
  }
  if (finite == 0) {
    result.pass = true;
    result.rms_relative = 0;
    return result;
  }
  const double rms = std::sqrt(squares / static_cast<double>(finite));
  const double error_rms = std::sqrt(error_squares / static_cast<double>(finite));
  result.rms_relative = rms > 0 ? error_rms / rms : (error_rms > 0 ? INFINITY : 0.0);
  double worst = 0;
  size_t worst_at = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(e[i])) continue;
    const double scale = std::max(std::abs(e[i]), rms);
    const double error = std::abs(a[i] - e[i]);
    const double relative = scale > 0 ? error / scale : (error > 0 ? INFINITY : 0.0);
    if (relative > worst) {
      worst = relative;
      worst_at = i;
    }
  }
  result.pass = result.rms_relative <= tolerance.rms_relative && worst <= tolerance.elementwise;
  result.message = fmt::format(
      "relative RMS error {:.3g} (at most {:.3g}); worst element {} got {:.9g}, expected "
      "{:.9g}, relative {:.3g} (at most {:.3g})",
      result.rms_relative, tolerance.rms_relative, coordinate(actual.shape(), static_cast<int64_t>(worst_at)),
      a[worst_at], e[worst_at], worst, tolerance.elementwise);
  return result;
}

}  // namespace sluice::test
