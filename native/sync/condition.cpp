#include "sync/condition.hpp"

#include <algorithm>
#include <cstddef>

namespace shoal::sync {

namespace {

using process::Node;
using process::NodeKind;

// node.state of a waiter: 28 bits that tell this waiter from later users of the node | phase. Below 2^30, see semaphore.cpp.
constexpr uint32_t kPhase = 3;  // its bits
constexpr uint32_t kWaiting = 1, kNotified = 2, kNotifiedWithAll = 3;
uint32_t waiting_state(uint32_t object, uint64_t ticket) {
  return (static_cast<uint32_t>(ticket * 0x9e3779b1u + object) & 0x0fffffff) << 2 | kWaiting;
}
// One of `most` that are notified. Of all it is told apart: nobody else would be told in its place.
uint32_t notified_state(uint32_t waiting, uint32_t most) {
  return waiting - kWaiting + (most == kEverybody ? kNotifiedWithAll : kNotified);
}

constexpr uint32_t kBatch = 64;

struct Found {
  uint32_t node, state;
  uint64_t ticket;
};

// The oldest waiters, at most kBatch, in order of arrival.
struct Oldest {
  Found found[kBatch];
  uint32_t count = 0;
  bool more = false;  // there are others

  void add(const Found& f, uint32_t most) {
    uint32_t at = count;
    while (at > 0 && found[at - 1].ticket > f.ticket) --at;
    if (count == most) {
      more = true;
      if (at == count) return;
      --count;
    }
    std::move_backward(found + at, found + count, found + count + 1);
    found[at] = f;
    ++count;
  }
};

bool is_alive(uint32_t slot) {
  return process::state_of(process::slot(slot).word.load()) == process::State::kLive && !process::token_says_dead(slot);
}

// Is this node a waiter of this condition, still waiting, in a process that lives?
bool waits_here(uint32_t index, uint32_t object, Found& f) {
  Node& n = process::node(index);
  const uint32_t owner = n.owner.load();
  f.state = n.state.load();  // first: whoever notifies swaps exactly this
  if (owner == 0 || n.object.load() != object + 1 || n.kind.load() != static_cast<uint32_t>(NodeKind::kWaiter) ||
      (f.state & kPhase) != kWaiting)
    return false;
  f.node = index;
  f.ticket = n.ticket.load();
  return is_alive(owner - 1);
}

uint32_t mark_of(uint32_t node, uint64_t ticket) { return (node + 1) | static_cast<uint32_t>(ticket) << 15; }
static_assert(arena::kNodes < 1u << 15, "node + 1 fits in fifteen bits");

void search_table(WaitersBody& body, uint32_t object, auto visit) {
  uint32_t crowded = body.crowded.load();
  const uint32_t end = arena::grown(arena::kNodeTable);
  bool any = false;
  Found f;
  for (uint32_t i = 0; i < end; ++i) {
    if (!waits_here(i, object, f)) continue;
    any = true;
    visit(f);
  }
  // Who arrives counts itself after its node can be seen, so nobody is overlooked.
  if (!any) body.crowded.compare_exchange_strong(crowded, 0);
}

void for_each_waiter(WaitersBody& body, uint32_t object, auto visit) {
  if (body.crowded.load() != 0) return search_table(body, object, visit);
  const uint32_t end = std::min(body.highest.load(), kWaiterPlaces);
  Found f;
  for (uint32_t i = 0; i < end; ++i) {
    uint32_t mark = body.places[i].load();
    if (mark == 0) continue;
    const uint32_t node = (mark & 0x7fff) - 1;
    if (!waits_here(node, object, f)) {
      // Of somebody who is about to leave, or who was killed.
      if (process::node(node).object.load() != object + 1) body.places[i].compare_exchange_strong(mark, 0);
    } else if (mark_of(node, f.ticket) == mark) {
      visit(f);
    } else {
      body.places[i].compare_exchange_strong(mark, 0);  // killed, and the node has a later waiter
    }
  }
}

void take_place(WaitersBody& body, Waiter& waiter) {
  for (uint32_t i = 0; i < kWaiterPlaces; ++i) {
    uint32_t nobody = 0;
    if (body.places[i].load(std::memory_order_relaxed) != 0 ||
        !body.places[i].compare_exchange_strong(nobody, waiter.mark))
      continue;
    waiter.place = i;
    uint32_t end = body.highest.load();
    while (end < i + 1 && !body.highest.compare_exchange_weak(end, i + 1)) {
    }
    return;
  }
  body.crowded.fetch_add(1);
}

void free_waiter(WaitersBody& body, Waiter& waiter) {
  if (waiter.place < kWaiterPlaces) body.places[waiter.place].compare_exchange_strong(waiter.mark, 0);
  process::free_node(waiter.node);
  waiter.node = process::kNoNode;
}

// True: it has not been notified, and cannot be any more.
bool take_back(const Waiter& waiter) {
  uint32_t expected = waiter.waiting;
  return process::node(waiter.node).state.compare_exchange_strong(expected, 0);
}

}  // namespace

bool enter(WaitersBody& body, uint32_t object, Waiter& waiter) {
  waiter.node = process::claim_node(NodeKind::kWaiter, object);
  if (waiter.node == process::kNoNode) return false;
  Node& n = process::node(waiter.node);
  const uint64_t ticket = body.tickets.fetch_add(1) + 1;
  n.ticket.store(ticket);
  n.futex.store(arena::kNodesAt + waiter.node * arena::kNodeBytes + offsetof(Node, state));
  waiter.waiting = waiting_state(object, ticket);
  n.state.store(waiter.waiting);
  waiter.mark = mark_of(waiter.node, ticket);
  take_place(body, waiter);
  return true;
}

Waited sleep(const Waiter& waiter, Wait& wait) {
  os::Word& state = process::node(waiter.node).state;
  const auto notified = [&] { return state.load() != waiter.waiting; };
  Waited result = Waited::kYes;
  wait.begin();
  if (wait.expired() || !spin(notified)) {
    while (!notified()) {
      if (wait.should_stop()) {
        result = Waited::kInterrupted;
        break;
      }
      const os::Wake woken = os::futex_wait(state, waiter.waiting, wait.deadline);
      if (woken == os::Wake::kSignal && wait.should_stop()) {
        result = Waited::kInterrupted;
        break;
      }
      if (woken == os::Wake::kTimeout) {
        if (take_back(waiter)) result = Waited::kTimeout;
        break;
      }
    }
  }
  return result;
}

void leave(WaitersBody& body, uint32_t object, Waiter& waiter, bool heeded) {
  if (!heeded && !take_back(waiter) && (process::node(waiter.node).state.load() & kPhase) == kNotified)
    notify(body, object, 1);
  free_waiter(body, waiter);
}

uint32_t notify(WaitersBody& body, uint32_t object, uint32_t most) {
  uint32_t notified = 0;
  while (notified < most) {
    Oldest oldest;
    const uint32_t room = std::min(most - notified, kBatch);
    for_each_waiter(body, object, [&](const Found& f) { oldest.add(f, room); });
    const uint32_t before = notified;
    for (uint32_t i = 0; i < oldest.count; ++i) {
      Found& f = oldest.found[i];
      os::Word& state = process::node(f.node).state;
      if (!state.compare_exchange_strong(f.state, notified_state(f.state, most))) continue;  // it has just left
      os::futex_wake(state, 1);
      ++notified;
    }
    if (oldest.count == 0 || (!oldest.more && notified > before)) break;
  }
  return notified;
}

uint32_t count_waiters(WaitersBody& body, uint32_t object) {
  uint32_t count = 0;
  for_each_waiter(body, object, [&](const Found&) { ++count; });
  return count;
}

void recover_waiter(uint32_t node) {
  Node& n = process::node(node);
  const uint32_t object = n.object.load();
  // Told, and not yet gone on: the next one is told in its place. Whoever repeats this wakes one more, for nothing, rather than none.
  if (object != 0 && (n.state.load() & kPhase) == kNotified)
    if (WaitersBody* body = object::body<WaitersBody>(object - 1)) notify(*body, object - 1, 1);
  process::free_node(node);
}

}  // namespace shoal::sync
