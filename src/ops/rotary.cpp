#include "ops/rotary.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/rope/rotary.h"
#include "ops/check.h"
#include "ops/sequence_layout_derived.h"
#include "ops/split_columns.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

std::vector<int64_t> distinct_of(const std::vector<int64_t>& positions) {
  std::vector<int64_t> distinct = positions;
  // A batch's positions come as a few ascending runs; a single one needs no sorting.
  if (!std::is_sorted(distinct.begin(), distinct.end())) std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  return distinct;
}

Tensor places_of(const std::vector<int64_t>& positions, const std::vector<int64_t>& distinct) {
  std::vector<int32_t> places(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) {
    const bool follows = i > 0 && positions[i] == positions[i - 1] + 1;
    const auto place =
        follows ? places[i - 1] + 1
                : std::lower_bound(distinct.begin(), distinct.end(), positions[i]) - distinct.begin();
    places[i] = static_cast<int32_t>(place);
  }
  return Tensor::from<int32_t>(Shape{static_cast<int64_t>(places.size())}, places);
}

void turn(const Tensor& x, const RotaryTable& table, int64_t heads, bool inverse, const GradientTarget& y) {
  dispatch_floating(x.dtype(), "rotary", [&]<class T>() {
    kernels::RotaryParams<T> p;
    p.rows = x.size(0), p.heads = heads, p.half = table.head_dim / 2;
    p.inverse = inverse;
    p.place = table.place.data<int32_t>();
    p.cosines = table.cosines.data<kernels::accumulate_t<T>>();
    p.sines = table.sines.data<kernels::accumulate_t<T>>();
    p.x = x.data<T>(), p.x_stride = x.row_stride();
    p.y = y.tensor.data<T>(), p.y_stride = y.tensor.row_stride();
    p.accumulate = y.accumulate;
    SLUICE_LAUNCH(T, x.device(), rotary, p);
  });
}

}  // namespace

RotaryTable make_rotary_table(const std::vector<int64_t>& positions, int64_t head_dim, double theta,
                              DType dtype, Device device) {
  SLUICE_CHECK(head_dim > 0 && head_dim % 2 == 0, kInternal, "[rotary] expected an even head size, got {}",
               head_dim);
  SLUICE_CHECK(theta > 0, kInternal, "[rotary] expected theta > 0, got {}", theta);
  const std::vector<int64_t> distinct = distinct_of(positions);
  SLUICE_CHECK(distinct.empty() || distinct.front() >= 0, kInternal,
               "[rotary] expected positions >= 0, got {}", distinct.front());
  const auto count = static_cast<int64_t>(distinct.size());
  SLUICE_CHECK(count <= std::numeric_limits<int32_t>::max(), kInternal,
               "[rotary] expected fewer than 2^31 distinct positions, got {}", count);
  const int64_t half = head_dim / 2;
  std::vector<double> inverse_frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    inverse_frequencies[static_cast<size_t>(i)] =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  }
  RotaryTable table;
  table.head_dim = head_dim;
  // Made on the CPU on every device: exact, and once a batch.
  const DType table_dtype = accumulate_dtype(dtype);
  table.place = places_of(positions, distinct).to(device);
  table.cosines = Tensor::empty(Shape{count, half}, table_dtype, Device::kCpu);
  table.sines = Tensor::empty(Shape{count, half}, table_dtype, Device::kCpu);
  dispatch_compute(table_dtype, "rotary", [&]<class T>() {
    kernels::RotaryTableParams<T> p;
    p.positions = count, p.half = half;
    p.position = distinct.data(), p.inverse_frequencies = inverse_frequencies.data();
    p.cosines = table.cosines.data<T>(), p.sines = table.sines.data<T>();
    kernels::cpu::rotary_table(p);
  });
  table.cosines = table.cosines.to(device);
  table.sines = table.sines.to(device);
  return table;
}

const RotaryTable& rotary_table_of(const SequenceLayout& layout, int64_t head_dim, double theta, DType dtype,
                                   Device device) {
  layout.indices();
  SequenceLayout::Derived& derived = *layout.derived;
  const bool fits = derived.rotary && derived.rotary->head_dim == head_dim && derived.rotary_theta == theta &&
                    derived.rotary->cosines.dtype() == accumulate_dtype(dtype) &&
                    derived.rotary->cosines.device() == device;
  if (!fits) {
    std::vector<int64_t> positions(static_cast<size_t>(layout.tokens()));
    for (int64_t s = 0; s < layout.sequences(); ++s) {
      const int64_t slot = layout.state_in[s];
      const int64_t before = layout.part != nullptr && slot >= 0 ? layout.before[slot] : 0;
      for (int64_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t) {
        positions[t] = before + t - layout.offsets[s];
      }
    }
    derived.rotary = make_rotary_table(positions, head_dim, theta, dtype, device);
    derived.rotary_theta = theta;
  }
  return *derived.rotary;
}

Variable rotary(const Variable& x, const RotaryTable& table, int64_t heads) {
  require_dtype("rotary", "the table", table.cosines, accumulate_dtype(x.dtype()));
  require_shape("rotary", "x", x.value(), Shape{table.tokens(), heads * table.head_dim});
  const auto recipe = [x = x.value(), table, heads] {
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    turn(x, table, heads, false, {y, false});
    return y;
  };
  Variable y = Tape::record_one("rotary", {x}, recipe(), [table, heads](BackwardContext& context) {
    turn(context.output_gradient(0), table, heads, true, context.target(0));
  });
  if (SelectiveRecomputeScope::active()) y.set_recipe(recipe);
  return y;
}

std::vector<Variable> split_rotary(const Variable& x, const std::vector<int64_t>& widths,
                                   const RotaryTable& table, int64_t heads) {
  require_dtype("split_rotary", "the table", table.cosines, accumulate_dtype(x.dtype()));
  const int64_t turned = heads * table.head_dim;
  SLUICE_CHECK(x.value().rank() == 2 && x.size(0) == table.tokens() && x.size(1) >= turned, kInternal,
               "[split_rotary] expected x of shape [{}, {} or more], got {}", table.tokens(), turned,
               x.shape().to_string());
  SLUICE_CHECK(!x.is_leaf(), kInternal, "[split_rotary] x is a leaf, which must keep its value");
  const auto turn_columns = [table, heads, turned](const Tensor& of, bool inverse) {
    const Tensor columns = of.columns(0, turned);
    turn(columns, table, heads, inverse, {columns, false});
  };
  turn_columns(x.value(), false);
  return split_changed_columns("split_rotary", x, widths,
                               [turn_columns](const Tensor& gradient) { turn_columns(gradient, true); });
}

}  // namespace sluice::ops
