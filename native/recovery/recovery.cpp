#include "recovery/recovery.hpp"

#include <csignal>
#include <vector>

#include "names/names.hpp"
#include "recovery/kinds.hpp"
#include "recovery/lifetime.hpp"
#include "sync/gate.hpp"
#include "task/task.hpp"

namespace shoal::recovery {

namespace {

using process::Slot;
using process::State;

sync::Mutex& mutex() { return *reinterpret_cast<sync::Mutex*>(arena::table(arena::kRecoveryAt)); }

// ns: a child claims its slot in its first microseconds, but on an overloaded machine it may take long to have them. A child whose parent is dead is not
// waited for as long: if it comes too late it ends itself.
constexpr uint64_t kGraceForUnclaimed = 60'000'000'000, kGraceForOrphans = 1'000'000'000;

void free_blobs_of(uint32_t dead) {
  blob::for_each([&](blob::Name name, blob::Word w) {
    if (w.state() != blob::State::kOwned || w.owner() != dead) return;
    if (w.backed() == 0)
      blob::free_owned(name, dead);  // it has no head yet, or no more
    else
      let_go(name, dead);
  });
}

void recover_objects(uint32_t dead) {
  const uint32_t end = arena::grown(arena::kObjectTable);
  for (uint32_t i = 0; i < end; ++i) {
    const object::Word w = object::load(i);
    switch (w.state()) {
      case object::State::kFree:
        break;
      case object::State::kClaimed:
        if (w.owner() == dead) {
          abandon_kind(w.kind(), i);
          object::release_for(i, dead);
          object::end_destroy(i);
        }
        break;
      case object::State::kDestroying:
        if (w.owner() == dead) destroy_and_free(i);
        break;
      default:
        recover_kind(w.kind(), i, dead);
    }
  }
}

void free_nodes_of(uint32_t dead) {
  const uint32_t end = arena::grown(arena::kNodeTable);
  for (uint32_t i = 0; i < end; ++i)
    if (process::node(i).owner.load() == dead + 1) recover_node(i);
}

void drop_holds_of(uint32_t dead) {
  const uint32_t end = arena::grown(arena::kObjectTable);
  for (uint32_t i = 0; i < end; ++i) {
    object::release_for(i, dead);  // of free cells too: it may have been about to learn that its reference is stale
    object::retire_if_unheld(i);   // the dead may have cleared its bit and not got as far as this
  }
}

// A killed process may have owed somebody a wake-up, in any of the ways sync/gate.hpp names. So everybody who sleeps looks once.
void wake_everybody() {
  const uint32_t end = arena::grown(arena::kNodeTable);
  for (uint32_t i = 0; i < end; ++i) {
    process::Node& n = process::node(i);
    const uint64_t futex = n.futex.load();
    if (n.owner.load() == 0 || futex == 0) continue;
    const uint64_t offset = futex & ~process::kCounted;
    char* address = offset < arena::kTablesEnd ? arena::table(offset) : arena::cell(offset, sizeof(os::Word));
    if (address == nullptr) continue;
    auto& word = *reinterpret_cast<os::Word*>(address);
    if ((futex & process::kCounted) != 0) word.fetch_add(1);
    os::futex_wake(word, INT_MAX);
  }
}

// Those who wait for results look after their workers whenever a process has gone.
void call_collectors() {
  const uint32_t end = arena::grown(arena::kObjectTable);
  for (uint32_t i = 0; i < end; ++i) {
    const object::Word w = object::load(i);
    if (w.kind() == object::Kind::kTaskTable && w.state() == object::State::kLive)
      channel::wake(channel::at(i)->partner);
  }
}

// Daemons, and those who asked for it, end with their parent.
void end_dependents(process::Token parent) {
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    Slot& s = process::slot(i);
    const uint64_t word = s.word.load();
    const State state = process::state_of(word);
    if ((state != State::kLive && state != State::kReserved) || s.parent.load() != parent) continue;
    if ((s.flags.load() & (process::kDaemon | process::kDieWithParent)) == 0) continue;
    const pid_t pid = s.pid.load();
    if (pid <= 0) continue;
    const int fd = os::pidfd_open(pid);
    // The number may have been reused before the descriptor was opened; the slot and the start time say whether it is still the same process. Without a
    // descriptor (none left, or a kernel that has none) there is a moment more in which it may be.
    if (s.word.load() == word && !os::process_is_gone(pid, s.ticks.load()) &&
        (fd < 0 || os::pidfd_kill(fd, SIGKILL) != 0))
      kill(pid, SIGKILL);
    if (fd >= 0) close(fd);
  }
}

// False: not all of it could be reached, for want of address space or because this process's descriptor has been closed. Then the slot stays as it is, for
// another one who recovers: each step can be repeated.
bool recover_held(uint32_t dead) {
  Slot& s = process::slot(dead);
  const uint64_t unreachable = arena::unreachable();
  const process::Token token = process::token_of(dead);
  const bool clean = (s.flags.load() & process::kClean) != 0;
  // 1. Sections that it was in: from here on each operation of the dead has either happened or not.
  recover_objects(dead);
  // 2. What it owned.
  task::report_lost(dead);
  free_blobs_of(dead);
  free_nodes_of(dead);
  for (std::atomic<uint32_t>& permit : arena::header().permits) {
    uint32_t its = dead + 1;
    permit.compare_exchange_strong(its, 0);
  }
  drop_holds_of(dead);
  names::recover(dead);
  end_dependents(token);
  if (!clean) wake_everybody();
  arena::header().recoveries.fetch_add(1);
  call_collectors();
  return arena::unreachable() == unreachable;
}

// 3. What only the dead could reach. The windows close first, since what it was forked with counts as reachable.
void sweep_after(const std::vector<uint32_t>& dead) {
  for (const uint32_t index : dead) {
    process::slot(index).window_low = process::kWindowOpen;
    process::slot(index).window_high = 0;
  }
  if (!dead.empty()) sweep_retired();
}

// 4. Nothing names it any more, and nothing of it is left: so says the slot to whoever finds that it has moved on. Hence the last step.
void free_slot(uint32_t dead) {
  Slot& s = process::slot(dead);
  s.flags = 0;
  s.pid = 0;
  s.ticks = 0;
  s.parent = 0;
  s.reserved_at = 0;
  s.journal = 0;
  s.word.store(process::word_of((s.word.load() >> 20) + 1, State::kFree), std::memory_order_release);
}

// Of a dead process, up to step 2; false: it lives, or not all could be reached.
bool begin_to_recover(uint32_t index) {
  Slot& s = process::slot(index);
  uint64_t word = s.word.load();
  const State state = process::state_of(word);
  if (index == process::mine() || state == State::kFree) return false;
  if (state != State::kRecovering) {
    if (!is_dead(index)) return false;
    if (!s.word.compare_exchange_strong(word, process::word_of(word >> 20, State::kRecovering, process::mine())))
      return false;
  }
  return recover_held(index);
}

uint32_t recover_locked(uint32_t first, uint32_t end) {
  std::vector<uint32_t> dead;
  for (uint32_t i = first; i < end; ++i)
    if (begin_to_recover(i)) dead.push_back(i);
  sweep_after(dead);
  for (const uint32_t index : dead) free_slot(index);
  return static_cast<uint32_t>(dead.size());
}

bool has_moved_on(process::Token life) {
  return !process::names(life, process::slot(process::slot_of(life)).word.load());
}

}  // namespace

void init() { sync::init(mutex()); }

bool enter(sync::Wait& wait) {
  const sync::Lock got = sync::lock(mutex(), wait);
  // In vain for so long: its holder may be a victim of the out-of-memory reaper, dead without a mark.
  if (got == sync::Lock::kTakenFromDead || (got == sync::Lock::kTimeout && sync::lock_if_holder_is_dead(mutex()))) {
    sync::repaired(mutex());  // what it left half done is repeated
    return true;
  }
  return got == sync::Lock::kTaken;
}

bool try_enter() {
  const sync::Lock got = sync::try_lock(mutex());
  if (got == sync::Lock::kTakenFromDead) sync::repaired(mutex());
  return got != sync::Lock::kTimeout;
}

void enter() {
  for (;;) {
    sync::Wait wait;
    wait.deadline = os::now() + kPatience;
    if (enter(wait)) return;
  }
}

void leave() { sync::unlock(mutex()); }

bool is_dead(uint32_t index) {
  Slot& s = process::slot(index);
  const uint64_t word = s.word.load();
  const pid_t pid = s.pid.load();
  switch (process::state_of(word)) {
    case State::kFree:
      return false;
    case State::kRecovering:
      return true;
    case State::kLive:
      return process::token_says_dead(index) || (pid > 0 && os::process_is_gone(pid, s.ticks.load()));
    case State::kReserved: {
      if (pid > 0) return os::process_is_gone(pid, s.ticks.load());
      // Nobody told its pid. Its parent may be about to; a child that has not come in a minute never existed or was killed at once.
      uint64_t since = 0;
      if (s.reserved_at.compare_exchange_strong(since, os::now())) return false;
      // Read before the clock: the parent may be writing a later time just now.
      const uint64_t now = os::now();
      const uint64_t grace = process::is_gone(s.parent.load()) ? kGraceForOrphans : kGraceForUnclaimed;
      return now > since && now - since > grace;
    }
  }
  return false;
}

bool recover(uint32_t slot) {
  enter();
  const bool done = recover_locked(slot, slot + 1) != 0;
  leave();
  return done;
}

bool recover_life(process::Token life, sync::Wait& wait) {
  if (has_moved_on(life)) return true;
  if (!enter(wait)) return false;
  if (!has_moved_on(life)) recover_locked(process::slot_of(life), process::slot_of(life) + 1);
  leave();
  return has_moved_on(life);
}

uint32_t recover_all() {
  enter();
  const uint32_t count = recover_locked(0, arena::kSlots);
  leave();
  return count;
}

}  // namespace shoal::recovery
