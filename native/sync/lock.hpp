// Floor 4: Lock and RLock, as users know them: a futex word that names its owner.
//
// Claiming a lock and saying who has it is one compare-and-swap; without contention that and one exchange are all there is. Who has to sleep, sleeps on
// the word and on the owner's life token, so the death of a holder wakes a waiter without anyone's help.
#pragma once

#include "object/object.hpp"
#include "sync/owner.hpp"
#include "sync/wait.hpp"

namespace shoal::sync {

struct LockBody {
  os::Word word;    // the commit of acquire and release; see sync/owner.hpp
  uint32_t raises;  // constant: 1: taking it over from the killed is an error, not a warning
  std::atomic<uint64_t>
      thread;  // my_thread() of the one who took it. Of an RLock it is cleared before the word, so it alone says "mine"
  uint32_t count;  // RLock: how often its owner holds it; the owner's alone
};

enum class Acquired { kYes, kAbandoned, kTimeout, kInterrupted };  // kAbandoned: yes, but its holder had been killed

inline void init(LockBody& body, bool raises) { body.raises = raises ? 1 : 0; }

Acquired acquire_slowly(LockBody& body, uint32_t object, Wait& wait);
void wake_next(LockBody& body);

inline bool is_taken(Acquired how) { return how == Acquired::kYes || how == Acquired::kAbandoned; }

// Lock. The caller has a slot: my_owner() is not 0.
inline bool try_acquire(LockBody& body) {  // of a free lock only; acquire() also takes over
  uint32_t nobody = kNobody;
  if (!body.word.compare_exchange_strong(nobody, my_owner())) return false;
  body.thread.store(my_thread(), std::memory_order_relaxed);
  return true;
}
inline Acquired acquire_contended(LockBody& body, uint32_t object, Wait& wait) {  // after try_acquire has failed
  const Acquired how = acquire_slowly(body, object, wait);
  if (is_taken(how)) body.thread.store(my_thread(), std::memory_order_relaxed);
  return how;
}
inline Acquired acquire(LockBody& body, uint32_t object, Wait& wait) {
  return try_acquire(body) ? Acquired::kYes : acquire_contended(body, object, wait);
}
// By anyone. False: it was not held.
inline bool release(LockBody& body) {
  const uint32_t before = body.word.exchange(kNobody);
  if ((before & kWaiters) != 0) wake_next(body);
  return before != kNobody;
}

inline bool is_locked(const LockBody& body) { return !may_be_taken(body.word.load(std::memory_order_relaxed)); }
inline bool is_held_here(const LockBody& body) {  // by some thread of this process
  return (body.word.load(std::memory_order_relaxed) & kOwnerBits) == my_owner();
}
inline bool is_mine(const LockBody& body) {
  return body.thread.load(std::memory_order_relaxed) == my_thread() && is_held_here(body);
}

// RLock
inline bool try_acquire_again(LockBody& body) {
  if (body.thread.load(std::memory_order_relaxed) == my_thread()) {
    ++body.count;
    return true;
  }
  if (!try_acquire(body)) return false;
  body.count = 1;
  return true;
}
inline Acquired acquire_again_contended(LockBody& body, uint32_t object, Wait& wait) {
  const Acquired how = acquire_contended(body, object, wait);
  if (is_taken(how)) body.count = 1;
  return how;
}
inline Acquired acquire_again(LockBody& body, uint32_t object, Wait& wait) {
  return try_acquire_again(body) ? Acquired::kYes : acquire_again_contended(body, object, wait);
}
// False: this thread does not own it.
inline bool release_once(LockBody& body) {
  if (body.thread.load(std::memory_order_relaxed) != my_thread()) return false;
  if (--body.count != 0) return true;
  body.thread.store(0, std::memory_order_relaxed);
  release(body);
  return true;
}

// Recovery: the dead process lets go. A Lock whose holder left in order stays held, for handing it over is a common idiom; everything else is
// abandoned. Idempotent: one compare-and-swap, and a wake-up that nobody misses (a recoverer killed before it is an abnormal death itself).
void recover_lock(uint32_t object, uint32_t dead);

}  // namespace shoal::sync
