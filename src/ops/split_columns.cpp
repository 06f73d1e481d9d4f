#include "ops/split_columns.h"

#include <memory>

#include "autograd/tape.h"
#include "core/error.h"

namespace sluice::ops {

std::vector<Variable> split_columns(const Variable& x, const std::vector<int64_t>& widths) {
  return split_changed_columns("split_columns", x, widths, nullptr);
}

std::vector<Variable> split_changed_columns(const char* op, const Variable& x,
                                            const std::vector<int64_t>& widths,
                                            std::function<void(const Tensor& gradient)> change_back) {
  std::vector<Tensor> parts;
  int64_t start = 0;
  for (const int64_t width : widths) {
    parts.push_back(x.value().columns(start, width));
    start += width;
  }
  SLUICE_CHECK(start == x.size(-1), kInternal, "[{}] widths add up to {}, the input has {} columns", op,
               start, x.size(-1));
  // The merged gradient, made when the first part's gradient is about to be written.
  auto merged = std::make_shared<Tensor>();
  auto part_of_merged = [merged, widths, shape = x.shape(), dtype = x.dtype(),
                         device = x.device()](size_t part) {
    if (!merged->defined()) *merged = Tensor::empty(shape, dtype, device);
    int64_t first = 0;
    for (size_t i = 0; i < part; ++i) first += widths[i];
    return merged->columns(first, widths[part]);
  };
  auto outputs =
      Tape::record(op, {x}, parts, [part_of_merged, merged, widths, change_back](BackwardContext& context) {
        for (size_t i = 0; i < widths.size(); ++i) {
          const Tensor place = part_of_merged(i);
          const Tensor& gradient = context.output_gradient(static_cast<int>(i));
          if (!gradient.defined()) {
            place.fill_zero();
          } else if (!gradient.same_view(place)) {
            place.copy_from(gradient);
          }
        }
        if (change_back) change_back(*merged);
        context.add(0, *merged);
        *merged = Tensor();
      });
  if (const auto node = outputs.empty() ? nullptr : Tape::node_of(outputs[0])) {
    for (size_t i = 0; i < widths.size(); ++i) {
      node->outputs[i].make_gradient = [part_of_merged, i] { return part_of_merged(i); };
    }
  }
  return outputs;
}

}  // namespace sluice::ops
