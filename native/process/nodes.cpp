#include "process/nodes.hpp"

namespace shoal::process {

namespace {
constexpr arena::TableShape kShape = {
    arena::kNodeTable, arena::kNodes, 64, {{arena::kNodesAt, arena::kNodeBytes}, {0, 0}, {0, 0}}};
thread_local uint32_t hint_ = 0;
}  // namespace

uint32_t claim_node(NodeKind kind, uint32_t object) {
  uint32_t index = kNoNode;
  const arena::Status status = arena::claim_cell(
      kShape, hint_, [](uint32_t i) { return node(i).owner.load(std::memory_order_relaxed) == 0; },
      [](uint32_t i) {
        uint32_t nobody = 0;
        return node(i).owner.compare_exchange_strong(nobody, mine() + 1);
      },
      index);
  if (status != arena::Status::kOk) return kNoNode;
  Node& n = node(index);
  n.futex.store(0, std::memory_order_relaxed);
  n.state.store(0, std::memory_order_relaxed);
  n.kind.store(static_cast<uint32_t>(kind), std::memory_order_relaxed);
  n.object.store(object + 1, std::memory_order_release);
  return index;
}

void free_node(uint32_t index) {
  Node& n = node(index);
  n.object.store(0, std::memory_order_relaxed);
  n.futex.store(0, std::memory_order_relaxed);
  n.kind.store(0, std::memory_order_relaxed);
  n.owner.store(0, std::memory_order_release);
  hint_ = index;
}

}  // namespace shoal::process
