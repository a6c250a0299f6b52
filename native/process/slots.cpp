#include "process/slots.hpp"

#include <algorithm>
#include <climits>

#include "process/parent.hpp"

namespace shoal::process {

namespace {

uint32_t mine_ = kNoSlot;
thread_local uint32_t next_fork_flags_ = 0;
thread_local uint32_t fork_flags_ = 0;  // of the last fork of this thread
thread_local Token fork_token_ = 0;
constexpr int kMaxHooks = 8;
void (*hooks_[kMaxHooks])();
int hook_count_ = 0;

void announce() {
  os::Word& changed = arena::header().slots_changed;
  changed.fetch_add(1);
  os::futex_wake(changed, INT_MAX);
}

// Only by the claiming process, before the slot is LIVE: nobody sleeps on a token that was never taken.
void take_life_token(Slot& s) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&s.life, &attributes);
  pthread_mutexattr_destroy(&attributes);
  // A token taken in a thread that then ends reads dead, so only the main thread takes one; others are known by their pidfd.
  if (os::on_main_thread() && pthread_mutex_lock(&s.life) == 0) s.flags.fetch_or(kHasToken);
}

uint32_t find_free(uint32_t flags, Token parent) {
  const uint64_t sequence = arena::header().fork_sequence.fetch_add(1) + 1;
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    Slot& s = slot(i);
    uint64_t word = s.word.load(std::memory_order_relaxed);
    if (state_of(word) != State::kFree) continue;
    const uint64_t generation = std::max<uint64_t>(word >> 20, 1);  // no life has generation 0: token 0 names nobody
    if (!s.word.compare_exchange_strong(word, word_of(generation, State::kReserved, mine_))) continue;
    // Between the swap and the next lines the fields are those of a free slot, all zero: recovery reads that as "just now".
    s.pid = 0;
    s.ticks = 0;
    s.parent = parent;
    s.running = 0;
    s.journal = 0;
    s.exit_code_known = 0;
    s.claimed_by = 0;
    s.flags = flags;
    if ((flags & kForked) != 0) {
      // What the parent itself holds by inheritance, the child holds too.
      const bool inherits = mine_ != kNoSlot && (slot(mine_).flags.load() & kForked) != 0;
      s.window_low = inherits ? std::min(sequence, slot(mine_).window_low.load()) : sequence;
      s.window_high = open_window(generation);
    } else {
      s.window_low = kWindowOpen;
      s.window_high = 0;
    }
    s.reserved_at = os::now();
    return i;
  }
  return kNoSlot;
}

// What is born from now on, a child that has been forked does not hold by inheritance. Said by its parent and by the child, whoever comes first: a child that is
// killed before it can would else hold all that is made until its slot is given up.
void close_window(Token life) {
  Slot& s = slot(slot_of(life));
  uint64_t open = open_window(generation_of(life));
  if (s.window_high.load() == open)
    s.window_high.compare_exchange_strong(open, arena::header().fork_sequence.fetch_add(1) + 1);
}

bool settle(uint32_t index, uint32_t flags) {
  Slot& s = slot(index);
  s.pid = getpid();
  s.ticks = 0;  // filled in by the watcher, which has time for /proc
  s.flags.fetch_or(flags);
  if ((s.flags.load() & kForked) != 0) close_window(token_of(index));
  take_life_token(s);
  uint64_t word = s.word.load();
  if (state_of(word) != State::kReserved) return false;  // given up by the others: we were too late
  if (!s.word.compare_exchange_strong(word, word_of(word >> 20, State::kLive))) return false;
  mine_ = index;
  s.claimed_by = getpid();
  // SYNC POINT with recovery, which marks the parent's slot before it looks for dependents: either it sees this one, or this one sees the mark.
  if ((s.flags.load() & kDependent) != 0) end_with_parent();
  announce();
  return true;
}

void before_fork() {
  fork_token_ = 0;
  fork_flags_ = next_fork_flags_ | kForked;
  if (arena::attached() && mine_ != kNoSlot) fork_token_ = reserve(fork_flags_);
  next_fork_flags_ = 0;
}

void after_fork_in_parent() {
  if (fork_token_ != 0) close_window(fork_token_);
}

void after_fork_in_child() {
  if (!arena::attached() || mine_ == kNoSlot) return;
  mine_ = kNoSlot;
  const Token token = fork_token_;
  fork_token_ = 0;
  claim(token, kForked);
  // Given up meanwhile, after its parent's death: for all others it never lived.
  if (token != 0 && (mine_ == kNoSlot || token_of(mine_) != token) && (fork_flags_ & kDependent) != 0)
    end_after_parent();
  for (int i = 0; i < hook_count_; ++i) hooks_[i]();
}

}  // namespace

uint32_t mine() { return mine_; }

bool is_gone(Token token) {
  if (token == 0) return false;
  const uint64_t word = slot(slot_of(token)).word.load();
  return !names(token, word) || state_of(word) == State::kRecovering;
}

Token reserve(uint32_t flags) {
  const uint32_t i = find_free(flags, mine_ != kNoSlot ? token_of(mine_) : 0);
  return i == kNoSlot ? 0 : token_of(i);
}

void set_pid(Token token, pid_t pid) {
  Slot& s = slot(slot_of(token));
  int32_t none = 0;
  if (names(token, s.word.load())) s.pid.compare_exchange_strong(none, pid);
  announce();
}

void cancel(Token token) {
  Slot& s = slot(slot_of(token));
  uint64_t word = s.word.load();
  // Blobs that carry references for the child may name the slot: recovery frees those, then the slot.
  if (names(token, word) && state_of(word) == State::kReserved)
    s.word.compare_exchange_strong(word, word_of(generation_of(token), State::kRecovering));
  announce();
}

bool claim(Token token, uint32_t flags) {
  if (token != 0 && names(token, slot(slot_of(token)).word.load()) && settle(slot_of(token), flags)) return true;
  const uint32_t i = find_free(flags, 0);
  return i != kNoSlot && settle(i, flags);
}

void leave(int exit_code, bool clean) {
  if (mine_ == kNoSlot) return;
  Slot& s = slot(mine_);
  s.exit_code = exit_code;
  s.exit_code_known = 1;
  if (clean) s.flags.fetch_or(kClean);
}

os::Word& life_word(uint32_t index) {
  static_assert(sizeof(slot(0).life.__data.__lock) == sizeof(os::Word));
  return reinterpret_cast<os::Word&>(slot(index).life.__data.__lock);
}

bool token_says_dead(uint32_t index) {
  return (slot(index).flags.load() & kHasToken) != 0 && (life_word(index).load() & FUTEX_OWNER_DIED) != 0;
}

bool lives_by_token(uint32_t index) {
  const Slot& s = slot(index);
  return state_of(s.word.load()) == State::kLive && (s.flags.load() & kHasToken) != 0 &&
         (life_word(index).load() & FUTEX_TID_MASK) != 0;
}

uint32_t slot_with_pid(pid_t pid) {
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    if (slot(i).pid.load(std::memory_order_relaxed) == pid && state_of(slot(i).word.load()) == State::kLive) return i;
  return kNoSlot;
}

uint32_t arm_life(uint32_t index) {
  os::Word& word = life_word(index);
  uint32_t value = word.load();
  while ((value & (FUTEX_WAITERS | FUTEX_OWNER_DIED)) == 0 && value != 0 &&
         !word.compare_exchange_weak(value, value | FUTEX_WAITERS)) {
  }
  return value | (value != 0 && (value & FUTEX_OWNER_DIED) == 0 ? FUTEX_WAITERS : 0);
}

namespace {
pid_t living(uint64_t watcher) {
  const auto pid = static_cast<pid_t>(watcher & 0xffffffff);
  return pid != 0 && os::process_lives(pid, static_cast<uint32_t>(watcher >> 32)) ? pid : 0;
}
}  // namespace

pid_t watcher() { return living(arena::header().watcher.load()); }

bool become_watcher() {
  const pid_t pid = getpid();
  uint64_t other = arena::header().watcher.load();
  return living(other) == 0 && arena::header().watcher.compare_exchange_strong(
                                   other, os::start_ticks(pid) << 32 | static_cast<uint32_t>(pid));
}

void cease_to_watch() { arena::header().watcher = 0; }

void watch_forks() {
  static bool done = false;
  if (done) return;
  done = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}

void set_fork_flags(uint32_t flags) { next_fork_flags_ = flags; }
Token last_fork() { return fork_token_; }

void on_fork_in_child(void (*hook)()) {
  if (hook_count_ < kMaxHooks) hooks_[hook_count_++] = hook;
}

}  // namespace shoal::process
