// Floor 4: how a 32-bit lock word names its owner.
//
//   slot + 1 (12 bits) | WAITERS (1 bit) | generation of the slot (19 bits)
//
// With the generation in it a word names one life of one slot: whoever looked, found the owner dead and then swaps, cannot take the lock
// from a process that got the same slot meanwhile.
#pragma once

#include "process/slots.hpp"

namespace shoal::sync {

constexpr uint32_t kOwnerSlot = 0xfff;
constexpr uint32_t kWaiters = 1u << 12;
constexpr uint32_t kOwnerBits = ~kWaiters;
constexpr uint32_t kNobody = 0;
constexpr uint32_t kHanded = 0xffe;     // its holder said good-bye while holding it: held, and anybody may release it
constexpr uint32_t kAbandoned = 0xfff;  // its holder was killed: free, and the next owner is told
static_assert(arena::kSlots < kHanded, "slot + 1 and the two special owners fit in twelve bits");

constexpr uint32_t owner_word(uint32_t slot, uint64_t generation) {
  return (slot + 1) | static_cast<uint32_t>(generation) << 13;
}
inline uint32_t owner_of_slot(uint32_t slot) {
  return owner_word(slot, process::slot(slot).word.load(std::memory_order_acquire) >> 20);
}
constexpr bool is_special(uint32_t word) { return (word & kOwnerSlot) >= kHanded; }
constexpr bool may_be_taken(uint32_t word) { return word == kNobody || (word & kOwnerBits) == kAbandoned; }
constexpr uint32_t slot_in(uint32_t word) { return (word & kOwnerSlot) - 1; }

// This process in an owner word; 0 when it has no slot (it never attached, or is a fork for which none was left).
inline std::atomic<uint32_t> my_owner_{0};
inline uint32_t find_my_owner() {
  static bool hooked = false;
  if (process::mine() == process::kNoSlot) return 0;
  if (!hooked) {
    process::on_fork_in_child([] { my_owner_.store(0, std::memory_order_relaxed); });
    hooked = true;
  }
  const uint32_t me = owner_of_slot(process::mine());
  my_owner_.store(me, std::memory_order_relaxed);
  return me;
}
inline uint32_t my_owner() {
  const uint32_t known = my_owner_.load(std::memory_order_relaxed);
  return known != 0 ? known : find_my_owner();
}

// This thread in this life of this process: never 0, and never the same as that of another thread, alive or dead. (Thread identifiers of
// the C library are reused, and a forked child inherits its parent's.)
inline std::atomic<uint32_t> threads_counted_{0};
#if defined(__GNUC__)
__attribute__((tls_model("initial-exec")))
#endif
inline constinit thread_local uint32_t my_thread_number_ = 0;
inline uint64_t my_thread() {
  if (my_thread_number_ == 0) my_thread_number_ = threads_counted_.fetch_add(1, std::memory_order_relaxed) + 1;
  return static_cast<uint64_t>(my_owner()) << 32 | my_thread_number_;
}

enum class OwnerState { kAlive, kKilled, kLeft };  // kLeft: in order
// What has become of the owner that the word names (not a special one).
inline OwnerState state_of_owner(uint32_t word) {
  const uint32_t slot = slot_in(word);
  if (slot >= arena::kSlots) return OwnerState::kKilled;
  const bool dead = process::token_says_dead(slot);
  const bool in_order = process::left_in_order(slot);
  // A slot that has moved on was recovered, so the word no longer names this owner, or should not. Looked at last: what was read above is then
  // about the right life.
  if (owner_of_slot(slot) != (word & kOwnerBits)) return OwnerState::kKilled;
  if (!dead) return OwnerState::kAlive;
  return in_order ? OwnerState::kLeft : OwnerState::kKilled;
}

}  // namespace shoal::sync
