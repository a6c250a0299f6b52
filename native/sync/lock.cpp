#include "sync/lock.hpp"

#include <algorithm>

#include "sync/gate.hpp"

namespace shoal::sync {

namespace {

constexpr uint64_t kSliceWithoutNode =
    200'000'000;  // ns: recovery cannot find such a sleeper, so it looks by itself now and then

// One attempt to become the owner. `bits`: kWaiters if others may be asleep.
bool claim(LockBody& body, uint32_t seen, uint32_t bits) {
  return body.word.compare_exchange_strong(seen, my_owner() | (seen & kWaiters) | bits);
}

// Looks at a word that names an owner. True: the caller owns the lock now, in the owner's place.
bool take_over(LockBody& body, uint32_t object, uint32_t seen, uint32_t bits) {
  switch (state_of_owner(seen)) {
    case OwnerState::kAlive:
      return false;
    case OwnerState::kLeft:
      if (object::load(object).kind() == object::Kind::kLock) {
        body.word.compare_exchange_strong(seen, kHanded | (seen & kWaiters));  // what recovery is about to do
        return false;
      }
      [[fallthrough]];
    case OwnerState::kKilled:
      return claim(body, seen, bits);
  }
  return false;
}

enum class Look { kMine, kMineAbandoned, kHeld };

// Takes the lock if it can be had now; else `seen` is a word that named a live (or special) owner.
Look look(LockBody& body, uint32_t object, uint32_t bits, uint32_t& seen) {
  for (;;) {
    seen = body.word.load();
    if (may_be_taken(seen)) {
      if (claim(body, seen, bits)) return seen == kNobody ? Look::kMine : Look::kMineAbandoned;
    } else if (is_special(seen) || (seen & kOwnerBits) == my_owner() || state_of_owner(seen) == OwnerState::kAlive) {
      return Look::kHeld;
    } else if (take_over(body, object, seen, bits)) {
      return Look::kMineAbandoned;
    }
  }
}

Acquired outcome(Look how) { return how == Look::kMine ? Acquired::kYes : Acquired::kAbandoned; }

// The kernel wakes one sleeper when a token's holder dies, whatever lock that one waited for: it tells the others.
void pass_on_death(uint32_t slot) {
  if (slot != process::kNoSlot && process::token_says_dead(slot)) os::futex_wake(process::life_word(slot), INT_MAX);
}

// Sleeps until something may have changed. `watched` is the slot whose token was slept on.
os::Wake sleep(LockBody& body, uint32_t seen, uint64_t deadline, uint32_t& watched) {
  watched = process::kNoSlot;
  if (is_special(seen) || slot_in(seen) == process::mine()) return os::futex_wait(body.word, seen, deadline);
  watched = slot_in(seen);
  const uint32_t life = process::arm_life(watched);
  if (state_of_owner(seen) != OwnerState::kAlive) return os::Wake::kChanged;
  return os::futex_wait_either(body.word, seen, process::life_word(watched), life, deadline);
}

}  // namespace

Acquired acquire_slowly(LockBody& body, uint32_t object, Wait& wait) {
  uint32_t seen = 0;
  if (Look how = look(body, object, 0, seen); how != Look::kHeld) return outcome(how);
  if (wait.expired()) return Acquired::kTimeout;
  wait.begin();
  if (spin([&] { return may_be_taken(body.word.load(std::memory_order_relaxed)); }))
    if (Look how = look(body, object, 0, seen); how != Look::kHeld) return outcome(how);

  const uint32_t node = process::claim_node(process::NodeKind::kSleeper, object);
  if (node != process::kNoNode) process::node(node).futex.store(object::offset_of(object, &body.word));
  Acquired result = Acquired::kTimeout;
  uint32_t bits = 0;
  for (;;) {
    const Look how = look(body, object, bits, seen);
    if (how != Look::kHeld) {
      result = outcome(how);
      break;
    }
    if (wait.expired()) break;
    if ((seen & kWaiters) == 0 && !body.word.compare_exchange_strong(seen, seen | kWaiters)) continue;
    seen |= kWaiters;
    // A signal that came since the caller last looked would otherwise wait for the sleep to end.
    if (wait.should_stop()) {
      result = Acquired::kInterrupted;
      break;
    }
    const uint64_t deadline =
        node != process::kNoNode ? wait.deadline : std::min(wait.deadline, os::now() + kSliceWithoutNode);
    uint32_t watched = process::kNoSlot;
    const os::Wake woken = sleep(body, seen, deadline, watched);
    // Who has slept may have been woken in place of another, or before others: it takes the lock as one that has waiters.
    bits = kWaiters;
    pass_on_death(watched);
    if (woken == os::Wake::kSignal && wait.should_stop()) {
      result = Acquired::kInterrupted;
      break;
    }
  }
  // Leaving without: the wake-up that came for us, if one did, is for somebody else.
  if (bits != 0 && (result == Acquired::kTimeout || result == Acquired::kInterrupted)) os::futex_wake(body.word, 1);
  if (node != process::kNoNode) process::free_node(node);
  return result;
}

void wake_next(LockBody& body) { os::futex_wake(body.word, 1); }

void recover_lock(uint32_t object, uint32_t dead) {
  auto* body = object::body<LockBody>(object);
  if (body == nullptr) return;
  const object::Word about = object::load(object);
  const uint32_t owner = owner_of_slot(dead);
  uint32_t seen = body->word.load();
  while ((seen & kOwnerBits) == owner) {
    // Still the lock that was looked at? (Its dead owner holds the object, so it is, unless these bits mean something else altogether.)
    if (object::load(object).raw >> 36 != about.raw >> 36) return;
    const uint32_t special = process::left_in_order(dead) && about.kind() == object::Kind::kLock ? kHanded : kAbandoned;
    if (body->word.compare_exchange_weak(seen, special | (seen & kWaiters))) {
      os::futex_wake(body->word, 1);
      return;
    }
  }
}

}  // namespace shoal::sync
