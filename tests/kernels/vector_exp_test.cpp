#include "core/vector_exp.h"

#include <cmath>
#include <limits>

#include "support/catch.h"

using sluice::vector_exp;

namespace {

// The largest error over [low, high] in units of the last place.
template <class T>
double worst_error(T low, T high, int points) {
  double worst = 0;
  for (int i = 0; i <= points; ++i) {
    const T x = low + (high - low) * static_cast<T>(i) / static_cast<T>(points);
    const long double exact = std::exp(static_cast<long double>(x));
    const T rounded = static_cast<T>(exact);
    const long double unit = std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
    worst = std::max(worst,
                     static_cast<double>(std::abs(static_cast<long double>(vector_exp(x)) - exact) / unit));
  }
  return worst;
}

template <class T>
void check_ends(T vanishing, T overflowing) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  CHECK(vector_exp(T(0)) == T(1));
  CHECK(vector_exp(-T(0)) == T(1));
  CHECK(vector_exp(vanishing) == T(0));
  CHECK(vector_exp(-kInfinity) == T(0));
  CHECK(vector_exp(std::numeric_limits<T>::lowest()) == T(0));
  CHECK(vector_exp(overflowing) == kInfinity);
  CHECK(vector_exp(kInfinity) == kInfinity);
  CHECK(vector_exp(std::numeric_limits<T>::max()) == kInfinity);
  CHECK(std::isnan(vector_exp(std::numeric_limits<T>::quiet_NaN())));
}

}  // namespace

TEST_CASE("vector_exp is within 2 units of the last place") {
  CHECK(worst_error<float>(-87.336f, 88.72f, 400000) < 2);
  CHECK(worst_error<float>(-1.0f, 1.0f, 100000) < 2);
  CHECK(worst_error<double>(-708.39, 709.78, 400000) < 2);
  CHECK(worst_error<double>(-1.0, 1.0, 100000) < 2);
}

TEST_CASE("vector_exp at the ends of its range") {
  check_ends<float>(-87.4f, 88.73f);
  check_ends<double>(-708.4, 709.79);
}

TEST_CASE("vector_exp never gives a denormal") {
  for (float x = -88.0f; x < -87.0f; x = std::nextafter(x, 0.0f)) {
    const float y = vector_exp(x);
    if (y != 0 && y < std::numeric_limits<float>::min()) FAIL("denormal at " << x);
  }
}
