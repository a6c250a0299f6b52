// Floor 4: two who talk to each other, and the cores that they run on.
//
// Whoever waits for an answer spins, for the other side needs a microsecond or two: if it runs. On the core where the spin is going on it does not. So each
// side leaves word of where it was last seen, and who finds that this is its own core goes to sleep at once. A question and its answer then cost two
// switches of the core, which is the least they can cost there.
//
// Two who sleep at once leave their core idle in between, so the scheduler sees a core with little to do, and leaves them there, even beside an idle one. (A
// virtual machine's idle core counts as one that is not to be had, and is not chosen at a wake-up.) Apart they would be three times as fast. So after a lively
// conversation on one core one side asks the other to stay awake, and both spin until the scheduler has looked at them, which it does at its ticks: it sees
// two that want to run, and moves one to the idle core, if there is one and if the affinities that users have set allow it. It does not like to move what has
// run within half a millisecond; hence they change places between the ticks, of themselves, before it has them do so at a tick. It is only tried
// where a core may be idle, and takes 2 % of a process's time at most, in vain or not; while it is in vain it becomes rarer.
#pragma once

#include "sync/gate.hpp"

namespace shoal::sync {

// One side of a conversation, in shared memory; each side writes its own.
struct Side {
  os::Word seen_on;     // core + 1; 0: not seen yet
  os::Word stay_awake;  // 1: the other side is asked to
};

inline void leave_word(Side& mine) {
  const uint32_t here = os::core() + 1;
  if (mine.seen_on.load(std::memory_order_relaxed) != here) mine.seen_on.store(here, std::memory_order_relaxed);
}
inline bool shares_core(const Side& other) { return other.seen_on.load(std::memory_order_relaxed) == os::core() + 1; }

constexpr uint32_t kOftenTogether = 256;       // waits in a row for somebody on this core …
constexpr uint64_t kLively = 50'000'000;       // … within so many ns
constexpr uint64_t kUntilLooked = 50'000'000;  // ns between looks for an idle core, which cost 10 us
constexpr uint64_t kUntilSeen = 20'000'000;    // ns: an attempt; the tick is 1 to 4 ms, or 10
constexpr uint64_t kTurn = 1'000'000;          // ns: how long one of the two spins before it lets the other
constexpr uint64_t kRarely = 50;               // an attempt may take 1 / 50 of the time
constexpr uint32_t kRarest = 5;                // doublings of that

// What one side knows of its conversation. Only a side that has `mine` may ask the other to stay awake.
struct Company {
  Side* mine = nullptr;
  uint32_t together = 0;  // waits in a row for somebody on this core
  uint64_t since = 0;     // when they began
  uint64_t until = 0;     // the attempt to part: 0, or when it ends
  uint64_t began = 0;
};

// How long a wait together is to spin, in ns; 0: not at all.
uint64_t spin_together(const Side& other, Company& company);
void nobody_came(Company& company);    // within that time
void met_elsewhere(Company& company);  // a wait for somebody on another core
// Before the conversation goes on in another thread, or ends: takes back what was asked.
void leave(Company& company);

// As spin(), for a message of the other side.
template <class Ready>
bool spin_for(const Side& other, Company& company, Ready ready) {
  if (arena::header().cores < 2) return false;
  if (!shares_core(other)) {
    met_elsewhere(company);
    return spin(ready);
  }
  const uint64_t limit = spin_together(other, company);
  if (limit == 0) return false;
  // Two spin here, but on one core: no permit is needed.
  const uint64_t end = os::now() + limit;
  uint64_t yield_at = os::now() + kTurn;
  for (uint64_t now = 0; (now = os::now()) < end; os::relax()) {
    if (ready()) return true;
    if (now < yield_at) continue;
    os::yield();
    yield_at = os::now() + kTurn;
  }
  nobody_came(company);
  return false;
}

}  // namespace shoal::sync
