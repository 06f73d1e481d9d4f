#include "autograd/backward.h"

#include <map>
#include <unordered_map>
#include <unordered_set>

#include "autograd/tape.h"

namespace sluice {
namespace {

using NodeQueue = std::map<uint64_t, std::shared_ptr<TapeNode>, std::greater<>>;  // newest first

// How many recorded uses of each leaf lie ahead: its gradient is ready after the last one.
std::unordered_map<GradientLeaf*, int64_t> count_leaf_uses(
    const std::vector<std::shared_ptr<TapeNode>>& roots) {
  std::unordered_map<GradientLeaf*, int64_t> uses;
  std::unordered_set<TapeNode*> seen;
  std::vector<TapeNode*> pending;
  for (const auto& root : roots) {
    if (seen.insert(root.get()).second) pending.push_back(root.get());
  }
  while (!pending.empty()) {
    TapeNode* node = pending.back();
    pending.pop_back();
    for (const TapeEdge& edge : node->inputs) {
      if (edge.leaf) ++uses[edge.leaf.get()];
      if (edge.node && seen.insert(edge.node.get()).second) pending.push_back(edge.node.get());
    }
  }
  return uses;
}

bool has_gradient(const TapeNode& node) {
  for (const OutputSlot& slot : node.outputs) {
    if (slot.gradient.defined()) return true;
  }
  return false;
}

void run_node(TapeNode& node, NodeQueue& queue, std::unordered_map<GradientLeaf*, int64_t>& uses) {
  SLUICE_CHECK(node.backward != nullptr, kInternal, "[{}] its part of the tape was walked before", node.name);
  if (has_gradient(node)) {
    BackwardContext context(node);
    node.backward(context);
  }
  node.backward = nullptr;
  for (OutputSlot& slot : node.outputs) {
    slot.gradient = Tensor();
    slot.make_gradient = nullptr;
  }
  for (TapeEdge& edge : node.inputs) {
    if (edge.node) queue.emplace(edge.node->sequence, edge.node);
    if (edge.leaf && --uses[edge.leaf.get()] == 0 && edge.leaf->on_gradient_ready)
      edge.leaf->on_gradient_ready();
  }
  node.inputs.clear();
}

}  // namespace

void backward(const std::vector<Variable>& roots, const std::vector<Tensor>& gradients) {
  SLUICE_ASSERT(roots.size() == gradients.size());
  const NoGradScope no_grad;
  NodeQueue queue;
  std::vector<std::shared_ptr<TapeNode>> root_nodes;
  // A pseudo node whose inputs are the roots checks and places the first gradients like any op would.
  TapeNode start;
  start.name = "backward";
  for (const Variable& root : roots) {
    start.inputs.push_back(Tape::edge_of(root));
    if (const auto node = Tape::node_of(root)) root_nodes.push_back(node);
  }
  auto uses = count_leaf_uses(root_nodes);
  BackwardContext context(start);
  for (size_t i = 0; i < roots.size(); ++i) {
    SLUICE_CHECK(roots[i].requires_grad(), kInternal, "backward from a variable that is not on the tape");
    context.add(static_cast<int>(i), gradients[i]);
  }
  for (const auto& node : root_nodes) queue.emplace(node->sequence, node);
  start.inputs.clear();
  while (!queue.empty()) {
    const std::shared_ptr<TapeNode> node = std::move(queue.begin()->second);
    queue.erase(queue.begin());
    run_node(*node, queue, uses);
  }
}

void backward(const Variable& root, double scale) {
  SLUICE_CHECK(root.value().numel() == 1, kInternal, "backward needs a gradient for a root of shape {}",
               root.shape().to_string());
  const Tensor gradient = Tensor::from<double>(root.shape(), {scale}).to(root.dtype());
  backward({root}, {gradient.to(root.device())});
}

}  // namespace sluice
