// The gated activation's backward pass that leaves the activation as well. What it computes is checked in
// tests/ops/activation_test.cpp; here: that nothing changes by asking for y, and that y has the forward
// pass's bits wherever it is put.
#include "kernels/activation/gated_activation.h"

#include <algorithm>
#include <vector>

#include "core/random.h"
#include "support/catch.h"

using namespace sluice;

namespace {

constexpr int kActivations = 13;

// [rows, columns] at the beginning of rows that lie `apart` elements further apart than they are long.
template <class T>
struct Rows {
  Rows(int64_t rows, int64_t columns, int64_t apart, uint64_t seed)
      : stride(columns + apart), values(static_cast<size_t>(rows * stride)) {
    const Philox philox(seed);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(2 * philox.normal(i));
  }
  int64_t stride;
  std::vector<T> values;
};

template <class T>
void check_backward_with_y(int64_t rows, int64_t columns, int64_t apart, bool accumulate) {
  for (int i = 0; i < kActivations; ++i) {
    INFO("activation " << i << ", " << rows << " x " << columns << ", " << apart << " apart, accumulate "
                       << accumulate);
    const Rows<T> gate_up(rows, 2 * columns, apart, 1), dy(rows, columns, apart, 2);
    const Rows<T> start(rows, 2 * columns, apart, 3);
    Rows<T> y(rows, columns, apart, 4);
    const Rows<T> untouched = y;
    kernels::GatedActivationForward<T> forward;
    forward.rows = rows, forward.columns = columns;
    forward.activation = static_cast<kernels::Activation>(i);
    forward.gate_up = gate_up.values.data(), forward.gate_up_stride = gate_up.stride;
    forward.y = y.values.data(), forward.y_stride = y.stride;
    kernels::cpu::gated_activation_forward(forward);
    kernels::GatedActivationBackward<T> backward;
    backward.rows = rows, backward.columns = columns, backward.activation = forward.activation;
    backward.gate_up = gate_up.values.data(), backward.gate_up_stride = gate_up.stride;
    backward.dy = dy.values.data(), backward.dy_stride = dy.stride;
    backward.accumulate = accumulate;
    const auto gradient = [&] {
      Rows<T> dgate_up = start;
      backward.dgate_up = dgate_up.values.data(), backward.dgate_up_stride = dgate_up.stride;
      kernels::cpu::gated_activation_backward(backward);
      return dgate_up.values;
    };
    const std::vector<T> expected = gradient();
    Rows<T> again = untouched;
    backward.y = again.values.data(), backward.y_stride = again.stride;
    CHECK((gradient() == expected));
    CHECK((again.values == y.values));

    Rows<T> in_place = dy;
    backward.dy = backward.y = in_place.values.data();
    CHECK((gradient() == expected));
    Rows<T> written = dy;
    for (int64_t first = 0; first < rows * y.stride; first += y.stride) {
      std::copy_n(y.values.begin() + first, columns, written.values.begin() + first);
    }
    CHECK((in_place.values == written.values));
  }
}

}  // namespace

TEST_CASE("gated activation, backward: y has the bits of forward's, beside dy and over it") {
  for (const int64_t columns : {1, 8, 19, 67}) {
    for (const int64_t apart : {0, 5}) {
      for (const bool accumulate : {false, true}) {
        check_backward_with_y<float>(3, columns, apart, accumulate);
        check_backward_with_y<double>(3, columns, apart, accumulate);
      }
    }
  }
  check_backward_with_y<float>(300, 67, 0, false);  // rows enough for several threads
}
