// Floor 2: waiter nodes. Whoever goes to sleep on something in the arena says so in a node first: a word that names the slot, and the futex word
// slept on. After an abnormal death recovery wakes every sleeper once, through these; each looks again at what it waits for. That one
// rule covers every wake-up that a killed process owed to somebody.
//
// A node can also stand for something its slot has: a permit of a semaphore, a party of a barrier, a waiter of a condition. `kind` and `state` belong to
// whoever claimed it.
#pragma once

#include "arena/cells.hpp"
#include "process/slots.hpp"

namespace shoal::process {

enum class NodeKind : uint32_t { kSleeper = 1, kPermit = 2, kParty = 3, kWaiter = 4 };

struct Node {
  std::atomic<uint32_t> owner;   // slot + 1; 0: free. The claim.
  std::atomic<uint32_t> object;  // index of the object it is about + 1; 0: none
  std::atomic<uint32_t> kind;
  os::Word state;                // a futex word, too
  std::atomic<uint64_t> futex;   // offset of the word slept on, | kCounted; 0: not asleep
  std::atomic<uint64_t> ticket;  // order of arrival, where it matters
};
static_assert(sizeof(Node) <= arena::kNodeBytes, "nodes lie kNodeBytes apart");

// The word slept on counts openings (sync/gate.hpp): whoever wakes its sleepers raises it first.
constexpr uint64_t kCounted = 1;

constexpr uint32_t kNoNode = UINT32_MAX;
inline Node& node(uint32_t index) {
  return *reinterpret_cast<Node*>(arena::table(arena::kNodesAt) + index * arena::kNodeBytes);
}

// kNoNode when there is no memory or no free node; waiting then goes by slices.
uint32_t claim_node(NodeKind kind, uint32_t object);
void free_node(uint32_t index);

}  // namespace shoal::process
