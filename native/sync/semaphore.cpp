#include "sync/semaphore.hpp"

namespace shoal::sync {

namespace {

struct Value {
  uint64_t raw;
  uint32_t value() const { return static_cast<uint32_t>(raw) & kSemaphoreMost; }
  uint32_t last() const { return static_cast<uint32_t>(raw >> 31) & 0x7fff; }
  uint32_t tag() const { return static_cast<uint32_t>(raw >> 46); }
  static Value make(uint32_t value, uint32_t last, uint32_t tag) {
    return {static_cast<uint64_t>(value) | static_cast<uint64_t>(last) << 31 | static_cast<uint64_t>(tag) << 46};
  }
  Value after(uint32_t value, uint32_t node) const {
    return make(value, node == process::kNoNode ? 0 : node + 1, (tag() + 1) & kTags);
  }
  static constexpr uint32_t kTags = (1u << 18) - 1;
};
static_assert(arena::kNodes < 0x7fff, "node + 1 fits in fifteen bits");

// node.state of a permit: phase, and for the first two the tag that the word will bear once the operation has happened. No other kind of node uses
// values with these high bits, so a helper that comes late finds nothing to swap.
constexpr uint32_t kTaking = 1u << 30, kGiving = 2u << 30, kHeld = 3u << 30, kGiven = 3u << 30 | 1;
constexpr uint32_t kPhase = 3u << 30;

// SYNC POINT: helping happens before the compare-and-swap that replaces the word; recover_permit reads the word first, then the node.
void help(Value w) {
  if (w.last() == 0) return;
  os::Word& state = process::node(w.last() - 1).state;
  uint32_t seen = state.load(std::memory_order_relaxed);
  if (seen == (kTaking | w.tag())) state.compare_exchange_strong(seen, kHeld);
  if (seen == (kGiving | w.tag())) state.compare_exchange_strong(seen, kGiven);
}

// One operation. `step` is -1 or +1, `phase` what the node (if there is one) says until it has happened. False: the value does not allow it.
bool change(SemaphoreBody& body, int step, uint32_t node, uint32_t phase) {
  Value w{body.word.load(std::memory_order_acquire)};
  for (;;) {
    if (step < 0 ? w.value() == 0 : w.value() >= body.maximum) return false;
    const Value next = w.after(w.value() + static_cast<uint32_t>(step), node);
    if (node != process::kNoNode) process::node(node).state.store(phase | next.tag());
    help(w);
    if (body.word.compare_exchange_weak(w.raw, next.raw)) return true;
  }
}

// Waits for take() to succeed.
template <class Take>
Obtained obtain(SemaphoreBody& body, uint32_t object, Wait& wait, Take take) {
  if (take()) return Obtained::kYes;
  if (wait.expired()) return Obtained::kTimeout;
  wait.begin();
  if (spin([&] { return value_of(body) != 0; }) && take()) return Obtained::kYes;
  Sleeper sleeper;
  Obtained result = Obtained::kYes;
  for (;;) {
    announce(body.gate, sleeper);
    if (take()) break;
    const Slept slept = sleep(body.gate, sleeper, object, object::offset_of(object, &body.gate), wait);
    if (slept == Slept::kAgain) continue;
    if (slept == Slept::kTimeout && take()) break;  // it came with the deadline
    result = slept == Slept::kTimeout ? Obtained::kTimeout : Obtained::kInterrupted;
    break;
  }
  leave(body.gate, sleeper, value_of(body) != 0);
  return result;
}

}  // namespace

void init(SemaphoreBody& body, uint32_t value, uint32_t maximum) {
  body.word = Value::make(value, 0, 0).raw;
  body.maximum = maximum;
}

bool try_acquire(SemaphoreBody& body) { return change(body, -1, process::kNoNode, 0); }

Obtained acquire(SemaphoreBody& body, uint32_t object, Wait& wait) {
  return obtain(body, object, wait, [&] { return change(body, -1, process::kNoNode, 0); });
}

bool release(SemaphoreBody& body) {
  if (!change(body, +1, process::kNoNode, 0)) return false;
  open_one(body.gate);
  return true;
}

namespace {

template <class Obtain>
Obtained with_permit(uint32_t object, uint32_t& permit, Obtain obtain_it) {
  permit = process::claim_node(process::NodeKind::kPermit, object);
  if (permit == process::kNoNode) return Obtained::kNoNode;
  process::node(permit).ticket.store(object::load(object).generation());
  const Obtained result = obtain_it();
  if (result == Obtained::kYes)
    process::node(permit).state.store(kHeld);
  else
    process::free_node(permit);
  return result;
}

}  // namespace

Obtained try_acquire_permit(SemaphoreBody& body, uint32_t object, uint32_t& permit) {
  if (value_of(body) == 0) return Obtained::kTimeout;
  return with_permit(object, permit,
                     [&] { return change(body, -1, permit, kTaking) ? Obtained::kYes : Obtained::kTimeout; });
}

Obtained acquire_permit(SemaphoreBody& body, uint32_t object, Wait& wait, uint32_t& permit) {
  return with_permit(object, permit,
                     [&] { return obtain(body, object, wait, [&] { return change(body, -1, permit, kTaking); }); });
}

bool release_permit(SemaphoreBody& body, uint32_t permit) {
  const bool done = change(body, +1, permit, kGiving);
  // A helper that has not been yet finds a free node, or one in another state.
  process::node(permit).state.store(kGiven);
  process::free_node(permit);
  if (done) open_one(body.gate);
  return done;
}

bool is_my_permit(uint32_t permit, uint32_t object) {
  const process::Node& n = process::node(permit);
  return n.owner.load(std::memory_order_relaxed) == process::mine() + 1 &&
         n.object.load(std::memory_order_relaxed) == object + 1 &&
         n.kind.load(std::memory_order_relaxed) == static_cast<uint32_t>(process::NodeKind::kPermit);
}

void forget_permit(uint32_t permit) { process::free_node(permit); }

void recover_permit(uint32_t node) {
  process::Node& n = process::node(node);
  const uint32_t object = n.object.load() - 1;
  // A node whose claim was cut short names no object, or not yet its generation; nothing has happened with it then.
  if (object != UINT32_MAX && object::load(object).kind() == object::Kind::kSemaphore &&
      object::load(object).generation() == n.ticket.load()) {
    if (auto* body = object::body<SemaphoreBody>(object); body != nullptr) {
      help(Value{body->word.load()});
      // Now the node says whether its last operation happened: the word may have moved on, but not without helping first. kGiving that was not helped is
      // a release that did not happen; and a kTaking that was not helped did not happen, either.
      const uint32_t state = n.state.load();
      const bool held = state == kHeld || (state & kPhase) == kGiving;
      if (held && change(*body, +1, node, kGiving)) open_one(body->gate);
      n.state.store(kGiven);
    }
  }
  process::free_node(node);
}

}  // namespace shoal::sync
