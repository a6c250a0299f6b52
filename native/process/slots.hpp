// Floor 2: process slots. Every process of the tree that uses the arena has one; its number is what owner words name.
//
//   FREE --reserve(parent)--> RESERVED --claim(child)--> LIVE --(death)--> RECOVERING --> FREE, next generation
//
// A slot is reused only after recovery has removed its number from every owner word.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "arena/arena.hpp"

namespace shoal::process {

enum class State : uint32_t { kFree = 0, kReserved = 1, kLive = 2, kRecovering = 3 };

constexpr uint32_t kDaemon = 1;         // ended when its parent dies, in whatever way
constexpr uint32_t kDieWithParent = 2;  // ended when its parent is killed
constexpr uint32_t kDependent = kDaemon | kDieWithParent;
constexpr uint32_t kForked = 4;    // holds, without bookkeeping, what existed at its fork
constexpr uint32_t kHasToken = 8;  // attached on its main thread, which holds the life token
constexpr uint32_t kClean = 16;    // said good-bye: no thread of it was in the middle of anything
constexpr uint32_t kFounder = 32;  // has made the arena

constexpr uint64_t kWindowOpen = UINT64_MAX;  // as a beginning: nothing is in the window
// The end of a window that has none yet, beyond all fork sequence numbers. It tells one life of the slot from the next, so who closes the window of a life that
// has gone meanwhile does not close another's.
constexpr uint64_t open_window(uint64_t generation) { return 1ull << 63 | generation; }

struct Slot {
  std::atomic<uint64_t>
      word;  // generation << 20 | who reserved or recovers it << 8 | state; the commit of each transition above
  std::atomic<int32_t> pid;  // 0: not known yet
  std::atomic<uint32_t> flags;
  std::atomic<uint64_t> ticks;                    // start time, against reuse of the pid; 0: not known
  std::atomic<uint64_t> parent;                   // the parent's token
  std::atomic<uint64_t> running;                  // task it has claimed: task << 20 | table's object index + 1; 0: none
  std::atomic<uint64_t> window_low, window_high;  // fork sequence numbers, see object/object.hpp
  std::atomic<uint64_t> reserved_at;              // nanoseconds
  std::atomic<int32_t> exit_code;                 // what it said before a clean exit
  std::atomic<uint32_t> exit_code_known;
  std::atomic<int32_t> claimed_by;   // the process that has, or had, it LIVE; kept until the slot is reserved again
  std::atomic<uint64_t> journal;     // a pool worker's (task/journal.hpp): the name of a blob; 0: none
  alignas(64) pthread_mutex_t life;  // the life token: robust, locked by the main thread for life
};
static_assert(sizeof(Slot) <= arena::kSlotBytes, "slots lie kSlotBytes apart");

// A token names one life of one slot: generation << 10 | slot.
using Token = uint64_t;
inline uint32_t slot_of(Token token) { return static_cast<uint32_t>(token & (arena::kSlots - 1)); }
inline uint64_t generation_of(Token token) { return token >> 10; }

inline Slot& slot(uint32_t index) {
  return *reinterpret_cast<Slot*>(arena::table(arena::kSlotsAt) + index * arena::kSlotBytes);
}
inline State state_of(uint64_t word) { return static_cast<State>(word & 0xff); }
inline uint32_t by_of(uint64_t word) { return static_cast<uint32_t>(word >> 8 & 0xfff); }
inline uint64_t word_of(uint64_t generation, State state, uint32_t by = 0xfff) {
  return generation << 20 | static_cast<uint64_t>(by & 0xfff) << 8 | static_cast<uint64_t>(state);
}
inline Token token_of(uint32_t index) { return (slot(index).word.load() >> 20) << 10 | index; }
inline bool names(Token token, uint64_t word) { return word >> 20 == generation_of(token); }

// Whether a dead process has left in order: it said good-bye, with the exit code 0. Who ends by an exception does not: what it had in hand is lost like that of the killed.
inline bool left_in_order(uint32_t index) {
  return (slot(index).flags.load() & kClean) != 0 && slot(index).exit_code.load() == 0;
}

// This process's slot; kNoSlot before it has attached.
constexpr uint32_t kNoSlot = UINT32_MAX;
uint32_t mine();
// Whether the process of that token is dead and others know it.
bool is_gone(Token token);

// Parent's side. reserve: 0 when all slots are taken.
Token reserve(uint32_t flags);
void set_pid(Token token, pid_t pid);
void cancel(Token token);

// Child's side. Claims the reserved slot, or (token 0, or one that has been given up) a fresh one; false when all are taken. Does not return in a dependent
// whose parent is dead.
bool claim(Token token, uint32_t flags = 0);
// Says good-bye: whatever happens from now on, this process holds nothing in the middle of an operation.
void leave(int exit_code, bool clean);

// The life token's word: what a sleeper on something owned by the slot sleeps on as well. Sets FUTEX_WAITERS, without which the
// kernel wakes nobody.
os::Word& life_word(uint32_t index);
bool token_says_dead(uint32_t index);
bool lives_by_token(uint32_t index);  // false: dead, or not known by its token
uint32_t slot_with_pid(pid_t pid);    // of a live process; kNoSlot: none
uint32_t arm_life(uint32_t index);    // the word's value to sleep on

// The tree's watcher: its pid, 0 if none lives. Whoever becomes it says so in one word, so that of several only one does.
pid_t watcher();
bool become_watcher();
void cease_to_watch();

// Registers the fork handlers (pthread_atfork: they run for every fork() of C or Python, not for vfork or a raw clone).
void watch_forks();
// For the next fork of this thread; the token of the slot reserved for the last fork of this thread.
void set_fork_flags(uint32_t flags);
Token last_fork();
// Called in a forked child, after it has its slot: drop what is private to the parent.
void on_fork_in_child(void (*hook)());

}  // namespace shoal::process
